"""What the summary repository takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from shared.domain.summary import FailureReason, SummaryFailure, SummaryText
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventRecord
from shared.storage.lead_document import LeadDocument, document

# Summary requests as rows: what goes into the statements, and what their answers mean.

_NOT_FOUND = Outcome(OutcomeStatus.NOT_FOUND)


def failure_body(failure: SummaryFailure) -> bytes:
    """Return a failure as the JSON that its outcome carries; `retryAfter` is in seconds."""
    body: dict[str, object] = {"reason": failure.reason, "detail": failure.detail}
    if failure.retry_after is not None:
        body["retryAfter"] = max(1, round(failure.retry_after.total_seconds()))
    return orjson.dumps(body)


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


def request_row(request: SummaryRequest, source: SummarySource) -> dict[str, Any]:
    event, refusal = request.event, request.refusal
    return {
        "id": str(event.id),
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "dataschema": event.dataschema,
        "data": orjson.Fragment(event.data),
        "time": event.time,
        "correlation_id": event.correlation_id,
        "payload_hash": _bytea(event.payload_hash),
        "lead_id": str(request.lead_id),
        "requested_by": request.requested_by,
        "reply_to": request.reply_to,
        "regenerate": request.regenerate,
        "deadline": request.deadline,
        "may_call": refusal is None,
        "reason": None if refusal is None else refusal.reason,
        "detail": None if refusal is None else refusal.detail,
        "failure": None if refusal is None else orjson.Fragment(failure_body(refusal)),
        "prompt_version": source.prompt_version,
        "provider": source.provider,
        "model": source.model,
    }


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


def running(event_id: UUID, row: asyncpg.Record, *, deadline: datetime) -> Running:
    return Running(
        id=event_id,
        fence=row["fence"],
        lead_id=row["lead_id"],
        lead_version=row["version"],
        input=row["input"].encode(),
        input_hash=row["input_hash"],
        deadline=deadline,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryResult:
    """What came of a running request, to be stored if the fence still holds."""

    running: Running
    result: SummaryText | SummaryFailure
    tokens_in: int
    tokens_out: int
    attempts: int
    latency: timedelta


def result_row(result: SummaryResult) -> dict[str, Any]:
    work = result.running
    row: dict[str, Any] = {
        "id": str(work.id),
        "fence": work.fence,
        "lead_version": work.lead_version,
        "input_hash": _bytea(work.input_hash),
        "tokens_in": result.tokens_in,
        "tokens_out": result.tokens_out,
        "attempts": result.attempts,
        "latency_ms": round(result.latency / timedelta(milliseconds=1)),
    }
    if isinstance(result.result, SummaryText):
        detail = {"leadId": str(work.lead_id), "summaryId": str(work.id)}
        return row | {
            "summary": result.result.summary,
            "next_action": result.result.next_action,
            "outcome": OutcomeStatus.SUMMARISED,
            "event_detail": detail,
        }
    failure = result.result
    return row | {
        "reason": failure.reason,
        "detail": failure.detail,
        "outcome": OutcomeStatus.FAILED,
        "event_detail": orjson.Fragment(failure_body(failure)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The request's end. `document` is the lead when it may have changed."""

    id: UUID
    outcome: Outcome
    document: LeadDocument | None = None
    reused: bool = False
    followers: int = 0


def missing(event_id: UUID) -> Finished:
    return Finished(id=event_id, outcome=_NOT_FOUND)


def refused(request: SummaryRequest) -> Finished:
    body = b"{}" if request.refusal is None else failure_body(request.refusal)
    return Finished(id=request.event.id, outcome=Outcome(OutcomeStatus.FAILED, body))


def summarised(
    event_id: UUID, lead: LeadDocument | None, *, reused: bool = False, followers: int = 0
) -> Finished:
    if lead is None:  # deleted since
        return Finished(id=event_id, outcome=_NOT_FOUND, followers=followers)
    return Finished(
        id=event_id,
        outcome=Outcome(OutcomeStatus.REUSED if reused else OutcomeStatus.SUMMARISED, lead.json),
        document=lead,
        reused=reused,
        followers=followers,
    )


def finished(
    result: SummaryResult, row: asyncpg.Record, documents: Mapping[UUID, LeadDocument]
) -> Finished:
    event_id, followers = result.running.id, row["followers"]
    if isinstance(result.result, SummaryText):
        lead = documents.get(result.running.lead_id)
        return summarised(event_id, lead, followers=followers)
    outcome = Outcome(OutcomeStatus.FAILED, failure_body(result.result))
    return Finished(id=event_id, outcome=outcome, followers=followers)


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody else is writing it, and will answer this request too."""


def resumed(event_id: UUID, row: asyncpg.Record) -> Running | Joined | Finished:
    if not row["same"]:
        return Finished(id=event_id, outcome=Outcome(OutcomeStatus.KEY_REUSED))
    if row["outcome"] == "accepted":
        if row["fence"] is None:
            return Joined()
        return running(event_id, row, deadline=row["deadline"])
    followers = row["followers"] or 0
    if row["outcome"] == OutcomeStatus.SUMMARISED:
        lead = None if row["id"] is None else document(row)
        return summarised(event_id, lead, reused=bool(row["reused"]), followers=followers)
    outcome = Outcome(OutcomeStatus(row["outcome"]), (row["detail"] or "{}").encode())
    return Finished(id=event_id, outcome=outcome, followers=followers)


def has_ended_meanwhile(row: asyncpg.Record, *, take_over: bool) -> bool:
    """Tell whether a request that looks unfinished ended while it was looked at."""
    if not row["same"] or row["outcome"] != "accepted":
        return False
    is_missed = row["progress"] == "queued" and not row["waits"]
    return is_missed or (row["progress"] == "running" and take_over and row["fence"] is None)


def was_replayed(row: asyncpg.Record) -> bool:
    """Tell whether all that became of an event is that a replay had no model called for it."""
    if not row["same"] or row["outcome"] != OutcomeStatus.FAILED:
        return False
    return bool(orjson.loads(row["detail"])["reason"] == FailureReason.REPLAYED)


def _bytea(value: bytes) -> str:
    return f"\\x{value.hex()}"


@dataclass(frozen=True, slots=True)
class Known:
    """The event was here before: `resume` tells what became of it."""


Opened = Running | Joined | Known | Finished


@dataclass(frozen=True, slots=True)
class Follower:
    """A request that is to hear of another one's end."""

    id: UUID
    reply_to: str | None
