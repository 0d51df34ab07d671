"""Places in an order, where pages begin."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in an order: what it is sorted by, and the id that decides between equals."""

    key: datetime | str
    id: UUID
