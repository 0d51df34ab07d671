"""How requests for summaries end, and how leads get their summaries."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson

from services.summarizer.storage.records import (
    Follower,
    Running,
    SummaryEnd,
    SummarySource,
    failed,
    failure_body,
    lead_documents,
    summarised,
    to_bytea,
)
from services.summarizer.writer import Written
from shared.batcher import PATIENCE, Batcher, open_batcher
from shared.domain.summary import SummaryFailure, SummaryText
from shared.events.outcome import OutcomeStatus
from shared.storage.lead_document import LeadDocument, document
from shared.storage.pool import Database
from shared.storage.prepared_statements import load_sql

# Larger batches gain nothing, and delay the answer to their first request.
MOST_AT_ONCE = 100

_FINISH = load_sql(__file__, "finish.sql")
_RESOLVE = load_sql(__file__, "resolve.sql")
_EXPIRE = load_sql(__file__, "expire.sql")

_IS_SETTLED = "SELECT outcome <> 'accepted' FROM leads.event WHERE id = $1"


class SummaryResults:
    """The ends of requests. Use through `open_results`: what ends together is stored together."""

    def __init__(self, database: Database, source: SummarySource) -> None:
        self._database = database
        self._source = source
        self._endings: Batcher[tuple[Running, Written], SummaryEnd | None]

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Send batches for the length of the block."""
        async with open_batcher(
            self._finish, name="summaries finished", most=MOST_AT_ONCE, patience=PATIENCE
        ) as self._endings:
            yield

    async def finish(self, running: Running, written: Written) -> SummaryEnd | None:
        """Store a result with its lead; None when the request has meanwhile got another end."""
        return await self._endings.submit((running, written))

    async def resolve(self, request_id: UUID) -> list[Follower]:
        """Give the requests that joined a finished one its end; returns all of them."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_RESOLVE, request_id)
        return [Follower(row["id"], row["reply_to"]) for row in rows]

    async def expire(self, failure: SummaryFailure, *, grace: timedelta) -> list[Follower]:
        """End what is unfinished `grace` after its deadline; returns those that failed by it."""
        body = failure_body(failure).decode()
        async with self._database.connection() as connection:
            rows = await connection.fetch(_EXPIRE, grace, failure.reason, failure.detail, body)
        return [
            Follower(row["id"], row["reply_to"], row["lead_id"])
            for row in rows
            if row["state"] == "failed"
        ]

    async def is_settled(self, request_id: UUID) -> bool:
        """Whether a request has its end."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_IS_SETTLED, request_id))

    async def _finish(self, results: Sequence[tuple[Running, Written]]) -> list[SummaryEnd | None]:
        source = self._source
        offer = orjson.dumps([_to_row(running, written) for running, written in results]).decode()
        ids = [running.id for running, _ in results]
        async with self._database.connection() as connection:
            rows = await connection.fetch(_FINISH, offer, source.personal, source.salt, ids)
            # Their leads have the summary of a newer version.
            superseded = [
                row["lead_id"] for row in rows if row["state"] == "succeeded" and row["id"] is None
            ]
            documents = await lead_documents(connection, superseded)
        documents |= {row["id"]: document(row) for row in rows if row["id"] is not None}
        followers = {row["summary_id"]: row["followers"] for row in rows}
        return [
            _end_of(written, documents.get(running.lead_id), followers=followers[running.id])
            if running.id in followers
            else None
            for running, written in results
        ]


@contextlib.asynccontextmanager
async def open_results(database: Database, source: SummarySource) -> AsyncGenerator[SummaryResults]:
    """Store results for the length of the block."""
    results = SummaryResults(database, source)
    async with results.run():
        yield results


def _to_row(running: Running, written: Written) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": str(running.id),
        "fence": running.fence,
        "lead_version": running.lead_version,
        "input_hash": to_bytea(running.input_hash),
        "tokens_in": written.usage.tokens_in,
        "tokens_out": written.usage.tokens_out,
        "attempts": written.usage.calls,
        "latency_ms": round(written.latency / timedelta(milliseconds=1)),
    }
    match written.result:
        case SummaryText(summary, next_action):
            return row | {
                "summary": summary,
                "next_action": next_action,
                "outcome": OutcomeStatus.SUMMARISED,
                "event_detail": {"leadId": str(running.lead_id), "summaryId": str(running.id)},
            }
        case SummaryFailure() as failure:
            return row | {
                "reason": failure.reason,
                "detail": failure.detail,
                "outcome": OutcomeStatus.FAILED,
                "event_detail": orjson.Fragment(failure_body(failure)),
            }


def _end_of(written: Written, lead: LeadDocument | None, *, followers: int) -> SummaryEnd:
    if isinstance(written.result, SummaryText):
        return summarised(lead, followers=followers)
    return failed(written.result, followers=followers)
