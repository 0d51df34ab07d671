"""What is said of a request for a summary on its way through the table of summaries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from shared.domain.summary import SummaryFailure
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventRecord
from shared.storage.lead_document import LeadDocument, document
from shared.storage.pool import Connection

JOINED = Outcome(OutcomeStatus.JOINED, answered=False)
"""Another request with the same input is running, and its end will answer this one too."""

_DOCUMENTS = """
    SELECT id, external_id, version, leads.partition_key(lead) AS partition_key,
           leads.lead_json(lead) AS json
    FROM leads.lead WHERE id = ANY($1::uuid[])
"""


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
    that exists or is being written.
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
    """A request whose summary the caller is to write.

    `input` is the JSON object that the model gets to see. Only who has the current `fence` can
    store the result.
    """

    id: UUID
    fence: int
    lead_id: UUID
    lead_version: int
    input: bytes
    input_hash: bytes
    deadline: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryEnd:
    """What a request has come to. `lead` is the lead when it may have changed.

    `followers` is how many requests wait for this one's end: what a `WriteResult` has no place
    for, while a summary's change is always the same.
    """

    outcome: Outcome
    lead: LeadDocument | None = None
    followers: int = 0


@dataclass(frozen=True, slots=True)
class Follower:
    """A request that gets another one's end; `lead_id` where that is not known anyway."""

    id: UUID
    reply_to: str | None
    lead_id: UUID | None = None


def failure_body(failure: SummaryFailure) -> bytes:
    """Return a failure as the JSON that its outcome carries; `retryAfter` is in seconds."""
    body: dict[str, object] = {"reason": failure.reason, "detail": failure.detail}
    if failure.retry_after is not None:
        body["retryAfter"] = max(1, round(failure.retry_after.total_seconds()))
    return orjson.dumps(body)


def failed(failure: SummaryFailure, *, followers: int = 0) -> SummaryEnd:
    """Return the end of a request without a summary."""
    outcome = Outcome(OutcomeStatus.FAILED, failure_body(failure))
    return SummaryEnd(outcome=outcome, followers=followers)


def summarised(
    lead: LeadDocument | None, *, reused: bool = False, followers: int = 0
) -> SummaryEnd:
    """Return the end of a request with a summary; `lead` is None when it was deleted since."""
    if lead is None:
        return SummaryEnd(outcome=Outcome(OutcomeStatus.NOT_FOUND), followers=followers)
    status = OutcomeStatus.REUSED if reused else OutcomeStatus.SUMMARISED
    return SummaryEnd(outcome=Outcome(status, lead.json), lead=lead, followers=followers)


async def lead_documents(
    connection: Connection, lead_ids: Sequence[UUID]
) -> dict[UUID, LeadDocument]:
    """Return leads by their ids, as they are now."""
    if not lead_ids:
        return {}
    rows = await connection.fetch(_DOCUMENTS, lead_ids)
    return {row["id"]: document(row) for row in rows}


def to_bytea(value: bytes) -> str:
    """Return bytes as PostgreSQL reads them from JSON."""
    return f"\\x{value.hex()}"
