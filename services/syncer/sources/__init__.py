"""Where leads come from besides clients: the port that each external source implements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.events.lead_fields import LeadFields


@dataclass(frozen=True, slots=True)
class Fetched:
    """The valid leads of a fetch, and one line for each row that is not a lead."""

    leads: Sequence[LeadFields]
    problems: Sequence[str]


class ExternalSource(Protocol):
    """A source of leads outside the system. `name` becomes the leads' `source`."""

    @property
    def name(self) -> str: ...

    async def fetch(self, count: int) -> Fetched:
        """Return up to `count` leads; raises `TransientError` when the source has a bad moment."""
        ...
