"""How a request for a summary begins: recorded once, then reused, running, joined or refused."""

import contextlib
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from services.summarizer.storage.records import (
    JOINED,
    Running,
    SummaryEnd,
    SummaryRequest,
    SummarySource,
    failed,
    failure_body,
    lead_documents,
    summarised,
    to_bytea,
)
from shared.batcher import PATIENCE, Batcher, open_batcher
from shared.domain.errors import TransientError
from shared.domain.summary import FailureReason
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.lead_document import document
from shared.storage.pool import Connection, Database
from shared.storage.prepared_statements import load_sql

# Larger batches gain nothing, and delay the answer to their first request.
MOST_AT_ONCE = 100

# How often a request may find that the work it was to join has ended meanwhile.
TRIES = 3

_OPEN = load_sql(__file__, "open.sql")
_JOIN = load_sql(__file__, "join.sql")
_REFUSE = load_sql(__file__, "refuse.sql")
_RESUME = load_sql(__file__, "resume.sql")

# An event whose work was deleted with its lead, or whose worker died before there was any.
_FORGET_EVENT = """
    DELETE FROM leads.event
    WHERE id = $1 AND outcome = 'accepted'
      AND NOT EXISTS (SELECT FROM leads.summary WHERE summary.id = event.id)
"""

# An event that a replay ended with the reason $2 because it may call no model.
_FORGET_REFUSAL = """
    WITH refused AS (
        DELETE FROM leads.event
        WHERE id = $1 AND outcome = 'failed' AND detail ->> 'reason' = $2
        RETURNING id
    )
    DELETE FROM leads.summary USING refused WHERE summary.id = refused.id
"""


class SummaryRequests:
    """Each event has one effect, and each input one writer, across all replicas.

    Use through `open_requests`: what is opened at the same time goes out together.
    """

    def __init__(self, database: Database, source: SummarySource) -> None:
        self._database = database
        self._source = source
        self._openings: Batcher[SummaryRequest, Running | SummaryEnd | None]

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Send batches for the length of the block."""
        async with open_batcher(
            self._open_batch, name="summaries opened", most=MOST_AT_ONCE, patience=PATIENCE
        ) as self._openings:
            yield

    async def open(
        self, request: SummaryRequest, *, take_over: bool = True
    ) -> Running | SummaryEnd:
        """Record a request; return it as running when the caller is to write it, else its end.

        Of a request that was recorded before, `take_over` makes the caller the writer, and opens
        anew one that a replay ended without a model. Otherwise a running one counts as joined.
        """
        for _ in range(TRIES):
            opened = await self._openings.submit(request)
            if opened is None:
                opened = await self._resume(request, take_over=take_over)
            if opened is not None:
                return opened
        raise TransientError("The request that this one was to join keeps ending")

    async def _open_batch(
        self, requests: Sequence[SummaryRequest]
    ) -> list[Running | SummaryEnd | None]:
        # An event may be in a batch twice, after a publication whose answer was lost: the
        # second entry is answered with the first.
        unique = {request.event.id: request for request in reversed(requests)}
        joined = SummaryEnd(outcome=JOINED)
        async with self._database.connection() as connection:
            opened = await self._open_unique(connection, unique)
        return [opened.pop(request.event.id, joined) for request in requests]

    async def _open_unique(
        self, connection: Connection, requests: Mapping[UUID, SummaryRequest]
    ) -> dict[UUID, Running | SummaryEnd | None]:
        """Return each request as running or with its end; None for events known before."""
        rows = await connection.fetch(_OPEN, *self._parameters(requests.values()))
        reused = [row["lead_id"] for row in rows if row["fate"] == "reused"]
        documents = await lead_documents(connection, reused)
        opened: dict[UUID, Running | SummaryEnd | None] = dict.fromkeys(requests)
        for row in rows:
            match row["fate"]:
                case "running":
                    deadline = requests[row["id"]].deadline
                    opened[row["id"]] = _running(row["id"], row, deadline=deadline)
                case "reused":
                    opened[row["id"]] = summarised(documents.get(row["lead_id"]), reused=True)
                case "not-found":
                    opened[row["id"]] = summarised(None)
                case _:
                    pass  # known or in conflict
        conflicts = [requests[row["id"]] for row in rows if row["fate"] == "conflict"]
        return opened | await self._join_or_refuse(connection, conflicts)

    async def _join_or_refuse(
        self, connection: Connection, requests: Sequence[SummaryRequest]
    ) -> dict[UUID, SummaryEnd]:
        if not requests:
            return {}
        rows = await connection.fetch(_JOIN, *self._parameters(requests))
        ends = {row["id"]: SummaryEnd(outcome=JOINED) for row in rows}
        refusals = {
            request.event.id: request.refusal
            for request in requests
            if request.refusal is not None and request.event.id not in ends
        }
        if refusals:
            refused = [request for request in requests if request.event.id in refusals]
            for row in await connection.fetch(_REFUSE, *self._parameters(refused)):
                ends[row["id"]] = failed(refusals[row["id"]])
        return ends

    async def _resume(
        self, request: SummaryRequest, *, take_over: bool
    ) -> Running | SummaryEnd | None:
        """Return what a known event has come to; None when it is to be opened once more."""
        event, source = request.event, self._source
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                _RESUME,
                event.id,
                event.payload_hash,
                source.personal,
                source.salt,
                take_over,
                request.reply_to,
            )
            if row is None or _has_ended_meanwhile(row, take_over=take_over):
                return None
            if row["same"] and row["outcome"] == "accepted" and row["progress"] is None:
                await connection.execute(_FORGET_EVENT, event.id)
                return None
            if take_over and _was_refused_to_a_replay(row):
                await connection.execute(_FORGET_REFUSAL, event.id, FailureReason.REPLAYED)
                return None
        if row["same"] and row["outcome"] == "accepted":
            if row["fence"] is None:
                return SummaryEnd(outcome=JOINED)
            return _running(event.id, row, deadline=row["deadline"])
        end = _end_of(row)
        return replace(end, outcome=replace(end.outcome, repeated=True))

    def _parameters(self, requests: Collection[SummaryRequest]) -> tuple[object, ...]:
        """Return the parameters of `open.sql` and its companions."""
        source = self._source
        rows = [_to_row(request, source) for request in requests]
        lead_ids = list({request.lead_id for request in requests})
        return (orjson.dumps(rows).decode(), source.personal, source.salt, lead_ids)


@contextlib.asynccontextmanager
async def open_requests(
    database: Database, source: SummarySource
) -> AsyncGenerator[SummaryRequests]:
    """Open requests for the length of the block."""
    requests = SummaryRequests(database, source)
    async with requests.run():
        yield requests


def _to_row(request: SummaryRequest, source: SummarySource) -> dict[str, Any]:
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
        "payload_hash": to_bytea(event.payload_hash),
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


def _running(event_id: UUID, row: asyncpg.Record, *, deadline: datetime) -> Running:
    return Running(
        id=event_id,
        fence=row["fence"],
        lead_id=row["lead_id"],
        lead_version=row["version"],
        input=row["input"].encode(),
        input_hash=row["input_hash"],
        deadline=deadline,
    )


def _has_ended_meanwhile(row: asyncpg.Record, *, take_over: bool) -> bool:
    """Whether a request that looks unfinished ended while it was looked at."""
    if not row["same"] or row["outcome"] != "accepted":
        return False
    is_missed = row["progress"] == "queued" and not row["waits"]
    return is_missed or (row["progress"] == "running" and take_over and row["fence"] is None)


def _was_refused_to_a_replay(row: asyncpg.Record) -> bool:
    """Whether an event only failed because a replay may call no model."""
    if not row["same"] or row["outcome"] != OutcomeStatus.FAILED:
        return False
    return bool(orjson.loads(row["detail"])["reason"] == FailureReason.REPLAYED)


def _end_of(row: asyncpg.Record) -> SummaryEnd:
    if not row["same"]:
        return SummaryEnd(outcome=Outcome(OutcomeStatus.KEY_REUSED))
    followers = row["followers"] or 0
    if row["outcome"] == OutcomeStatus.SUMMARISED:
        lead = None if row["id"] is None else document(row)
        return summarised(lead, reused=bool(row["reused"]), followers=followers)
    outcome = Outcome(OutcomeStatus(row["outcome"]), (row["detail"] or "{}").encode())
    return SummaryEnd(outcome=outcome, followers=followers)
