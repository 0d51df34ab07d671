"""Events about a person who is to be forgotten."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedEvent:
    """An applied event whose entries go: they were added between `made_at` and `applied_at`."""

    id: UUID
    type: str
    made_at: datetime
    applied_at: datetime
