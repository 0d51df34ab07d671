"""Summary requests as rows: what goes into the statements, and what their answers mean."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from shared.domain.summary import FailureReason, SummaryFailure, SummaryText
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.lead_document import LeadDocument
from shared.storage.lead_repository import document
from shared.storage.summary_records import (
    Finished,
    Joined,
    Running,
    SummaryRequest,
    SummaryResult,
    SummarySource,
)

_NOT_FOUND = Outcome(OutcomeStatus.NOT_FOUND)


def failure_body(failure: SummaryFailure) -> bytes:
    """Return a failure as the JSON that its outcome carries; `retryAfter` is in seconds."""
    body: dict[str, object] = {"reason": failure.reason, "detail": failure.detail}
    if failure.retry_after is not None:
        body["retryAfter"] = max(1, round(failure.retry_after.total_seconds()))
    return orjson.dumps(body)


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
