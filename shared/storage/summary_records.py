"""What the summary repository takes and gives."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.domain.summary import SummaryFailure, SummaryText
from shared.events.outcome import Outcome
from shared.storage.event_record import EventRecord
from shared.storage.lead_document import LeadDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarySource:
    """Who writes, from what: with another source an old summary is not used again.

    `personal` includes e-mail, phone numbers and date of birth in what the model sees.
    """

    provider: str
    model: str
    prompt_version: str
    personal: bool = False

    @property
    def salt(self) -> str:
        """Return what distinguishes this source in the hash of a request's input."""
        return f"{self.provider}\n{self.model}\n{self.prompt_version}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRequest:
    """A request as it arrives.

    `refusal` says why no model may be called for it; it can still be answered from a summary
    that is there or under way.
    """

    event: EventRecord
    lead_id: UUID
    requested_by: str | None
    reply_to: str | None
    regenerate: bool
    deadline: datetime
    refusal: SummaryFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The caller is to write this one. `input` is the JSON object that the model gets to see."""

    id: UUID
    fence: int
    lead_id: UUID
    lead_version: int
    input: bytes
    input_hash: bytes
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody else is writing it, and will answer this request too."""


@dataclass(frozen=True, slots=True)
class Known:
    """The event was here before: `resume` tells what became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The request's end. `document` is the lead when it may have changed."""

    id: UUID
    outcome: Outcome
    document: LeadDocument | None = None
    reused: bool = False
    followers: int = 0


Opened = Running | Joined | Known | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryResult:
    """What came of a running request, to be stored if the fence still holds."""

    running: Running
    result: SummaryText | SummaryFailure
    tokens_in: int
    tokens_out: int
    attempts: int
    latency: timedelta


@dataclass(frozen=True, slots=True)
class Follower:
    """A request that is to hear of another one's end."""

    id: UUID
    reply_to: str | None
