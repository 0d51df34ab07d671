"""An event that was parked because no retry will help it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A parked entry: everything needed to understand it and to put it back."""

    group: str
    event_id: str
    stream: str
    entry_id: str
    type: str
    reason: str
    error: str
    attempts: int
    fields: Mapping[str, str]
