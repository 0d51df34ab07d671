"""Requests for summaries in PostgreSQL: each event has one effect, each input one writer."""

import contextlib
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg
import orjson

from services.summarizer.storage import ending, opening
from services.summarizer.storage.records import (
    Finished,
    Follower,
    Joined,
    Known,
    Opened,
    Running,
    SummaryRequest,
    SummaryResult,
    SummarySource,
    failure_body,
    finished,
    has_ended_meanwhile,
    missing,
    refused,
    request_row,
    result_row,
    resumed,
    running,
    summarised,
    was_replayed,
)
from shared.batcher import Batcher, open_batcher
from shared.domain.summary import FailureReason, SummaryFailure
from shared.storage.lead_document import LeadDocument, document
from shared.storage.pool import Connection, Database

# Larger batches gain nothing, and keep their first from being answered.
MOST_AT_ONCE = 100


class SummaryRepository:
    """Raises `UnavailableError` when PostgreSQL is down, `TransientError` to be asked again.

    Use through `open_summaries`: what is asked at the same time goes out together.
    """

    def __init__(self, database: Database, source: SummarySource) -> None:
        self._database = database
        self._source = source
        self._weighing = (source.personal, source.salt)
        self._openings: Batcher[SummaryRequest, Opened]
        self._endings: Batcher[SummaryResult, Finished | None]

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Send batches for the length of the block."""
        async with (
            open_batcher(self._open, name="summaries opened", most=MOST_AT_ONCE) as self._openings,
            open_batcher(
                self._finish, name="summaries finished", most=MOST_AT_ONCE
            ) as self._endings,
        ):
            yield

    async def open(self, request: SummaryRequest) -> Opened:
        """Record a request and say what is to be done about it."""
        return await self._openings.submit(request)

    async def finish(self, result: SummaryResult) -> Finished | None:
        """Store a result with its lead; None when the request has meanwhile got another end."""
        return await self._endings.submit(result)

    async def resume(
        self, request: SummaryRequest, *, take_over: bool
    ) -> Running | Joined | Finished | None:
        """Return what became of a known event; None when it is to be opened once more.

        `take_over` makes a running one the caller's, and one that a replay has ended without a
        model is opened anew; else the former counts as joined, and the latter stays.
        """
        event = request.event
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                opening.RESUME,
                event.id,
                event.payload_hash,
                *self._weighing,
                take_over,
                request.reply_to,
            )
            if row is None or has_ended_meanwhile(row, take_over=take_over):
                return None
            if row["same"] and row["outcome"] == "accepted" and row["progress"] is None:
                await connection.execute(opening.FORGET, event.id)
                return None
            if take_over and was_replayed(row):
                await connection.execute(opening.TAKE_BACK, event.id, FailureReason.REPLAYED)
                return None
        return resumed(event.id, row)

    async def restore(self, event_id: UUID) -> Finished | None:
        """Give a lead that lost it the summary that this request wrote; None when it has one."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(ending.RESTORE, event_id)
        return None if row is None else summarised(event_id, document(row))

    async def resolve(self, leader: UUID) -> list[Follower]:
        """Give whoever joined a finished request its end; returns all who did."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(ending.RESOLVE, [leader])
        return [Follower(row["id"], row["reply_to"]) for row in rows]

    async def expire(self, failure: SummaryFailure, *, grace: timedelta) -> list[Follower]:
        """End what is unfinished `grace` after its deadline; returns those that failed by it."""
        body = failure_body(failure).decode()
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                ending.EXPIRE, grace, failure.reason, failure.detail, body
            )
        return [Follower(row["id"], row["reply_to"]) for row in rows if row["state"] == "failed"]

    async def is_settled(self, event_id: UUID) -> bool:
        """Tell whether a request has got its end."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(ending.IS_SETTLED, event_id))

    async def _open(self, requests: Sequence[SummaryRequest]) -> list[Opened]:
        # An event may be in a batch twice, after a publication whose answer was lost: the
        # second entry is answered with the first.
        unique = {request.event.id: request for request in reversed(requests)}
        async with self._database.connection() as connection:
            opened = await self._open_unique(connection, unique)
        return [opened.pop(request.event.id, Joined()) for request in requests]

    async def _open_unique(
        self, connection: Connection, requests: Mapping[UUID, SummaryRequest]
    ) -> dict[UUID, Opened]:
        rows = await connection.fetch(opening.OPEN, *self._offer(requests.values()))
        fates = {row["id"]: row["fate"] for row in rows}
        reused = [row for row in rows if row["fate"] == "reused"]
        opened: dict[UUID, Opened] = {
            row["id"]: running(row["id"], row, deadline=requests[row["id"]].deadline)
            for row in rows
            if row["fate"] == "running"
        }
        opened |= {key: missing(key) for key, fate in fates.items() if fate == "not-found"}
        opened |= await _reuse(connection, reused)
        conflicts = [requests[key] for key, fate in fates.items() if fate == "conflict"]
        opened |= await self._join_or_refuse(connection, conflicts)
        return {key: opened.get(key, Known()) for key in requests}

    async def _join_or_refuse(
        self, connection: Connection, requests: Sequence[SummaryRequest]
    ) -> dict[UUID, Opened]:
        if not requests:
            return {}
        rows = await connection.fetch(opening.JOIN, *self._offer(requests))
        ended: dict[UUID, Opened] = {row["id"]: Joined() for row in rows}
        turned_away = {
            request.event.id: request
            for request in requests
            if request.refusal is not None and request.event.id not in ended
        }
        if turned_away:
            offer = self._offer(turned_away.values())
            for row in await connection.fetch(opening.REFUSE, *offer):
                ended[row["id"]] = refused(turned_away[row["id"]])
        return ended

    async def _finish(self, results: Sequence[SummaryResult]) -> list[Finished | None]:
        offer = orjson.dumps([result_row(result) for result in results]).decode()
        ids = [result.running.id for result in results]
        async with self._database.connection() as connection:
            rows = await connection.fetch(ending.FINISH, offer, *self._weighing, ids)
            superseded = [
                row["lead_id"] for row in rows if row["state"] == "succeeded" and row["id"] is None
            ]
            documents = await _documents(connection, superseded)
        documents |= {row["id"]: document(row) for row in rows if row["id"] is not None}
        ends = {row["summary_id"]: row for row in rows}
        return [
            finished(result, ends[result.running.id], documents)
            if result.running.id in ends
            else None
            for result in results
        ]

    def _offer(self, requests: Collection[SummaryRequest]) -> tuple[object, ...]:
        """Return the parameters of a batch that begins."""
        rows = [request_row(request, self._source) for request in requests]
        lead_ids = list({request.lead_id for request in requests})
        return (orjson.dumps(rows).decode(), *self._weighing, lead_ids)


@contextlib.asynccontextmanager
async def open_summaries(
    database: Database, source: SummarySource
) -> AsyncGenerator[SummaryRepository]:
    """Run a repository for the length of the block."""
    repository = SummaryRepository(database, source)
    async with repository.run():
        yield repository


async def _reuse(connection: Connection, rows: Sequence[asyncpg.Record]) -> dict[UUID, Finished]:
    documents = await _documents(connection, [row["lead_id"] for row in rows])
    return {
        row["id"]: summarised(row["id"], documents.get(row["lead_id"]), reused=True) for row in rows
    }


async def _documents(connection: Connection, lead_ids: Sequence[UUID]) -> dict[UUID, LeadDocument]:
    if not lead_ids:
        return {}
    rows = await connection.fetch(ending.DOCUMENTS, lead_ids)
    return {row["id"]: document(row) for row in rows}
