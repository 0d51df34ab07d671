"""A sync fetches once per tick, lands what is good and counts the rest."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from redis.asyncio import Redis

from services.syncer.schedule import request_sync
from services.syncer.sources import Fetched
from shared.events.data import SyncRequested
from shared.events.envelope import Event
from shared.storage.pool import Database
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import OncePublisher, add_events
from tests.integration.syncer.conftest import Offers, StartSyncer
from tests.support.builders import lead_fields
from tests.support.eventually import eventually

SAMPLE = Path(__file__).parents[2] / "support" / "samples" / "randomuser-20.json"


class Upstream:
    """A Random User of the test's own making: answers with the next body and status."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.requests: list[dict[str, str]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.query))
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, body=body, content_type="application/json")


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    server = Upstream()
    app = web.Application()
    app.router.add_get("/api/", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/"
    yield server
    await runner.cleanup()


async def test_the_sample_users_become_leads_field_by_field(
    start_syncer: StartSyncer, upstream: Upstream, redis: Redis, database: Database
) -> None:
    upstream.answers = [(200, SAMPLE.read_bytes())]
    async with start_syncer(url=upstream.url, results=20):
        run = await _sync(redis, database)
    assert _counts(run) == {
        "fetched": 20,
        "created": 20,
        "duplicate": 0,
        "invalid": 0,
        "unknown": 0,
    }
    assert upstream.requests == [{"results": "20"}]
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT * FROM leads.lead")
    stored = {str(row["external_id"]): row for row in rows}
    for user in json.loads(SAMPLE.read_text())["results"]:
        row = stored.pop(user["login"]["uuid"])
        assert {name: row[name] for name in _expected(user)} == _expected(user)
    assert stored == {}


async def test_bad_rows_are_counted_and_good_rows_land(
    start_syncer: StartSyncer, upstream: Upstream, redis: Redis, database: Database
) -> None:
    document = json.loads(SAMPLE.read_text())
    users = document["results"][:8]
    users[1]["email"] = "nobody"
    users[2]["login"]["uuid"] = None
    users[3]["name"]["first"] = "x" * 51
    users[4]["picture"]["large"] = "javascript:alert(1)"
    users[5] = "a string"
    users[6]["location"]["city"] = "Caf\x00e"
    users[7]["email"] = users[0]["email"].upper()
    upstream.answers = [(200, json.dumps({"results": users}).encode())]
    async with start_syncer(url=upstream.url):
        run = await _sync(redis, database)
    assert _counts(run) == {"fetched": 8, "created": 1, "duplicate": 1, "invalid": 6, "unknown": 0}


async def test_a_person_whose_external_id_is_a_leads_id_is_skipped(
    start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    source = Offers(Fetched([lead_fields()], []))
    async with start_syncer(source=source):
        await _sync(redis, database)
        async with database.connection() as connection:
            lead_id = await connection.fetchval("SELECT id FROM leads.lead")
        source.fetched = Fetched([lead_fields(external_id=lead_id), lead_fields()], [])
        run = await _sync(redis, database)
    assert _counts(run) == {"fetched": 2, "created": 1, "duplicate": 1, "invalid": 0, "unknown": 0}


async def test_a_second_sync_skips_what_is_known(
    start_syncer: StartSyncer, upstream: Upstream, redis: Redis, database: Database
) -> None:
    upstream.answers = [(200, SAMPLE.read_bytes())]
    async with start_syncer(url=upstream.url):
        await _sync(redis, database)
        run = await _sync(redis, database)
    assert _counts(run) == {
        "fetched": 10,
        "created": 0,
        "duplicate": 10,
        "invalid": 0,
        "unknown": 0,
    }


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, b"{}", "answered 500"),
        (200, b"<html>", "something else than users"),
        (200, b'{"error": "Uh oh"}', "something else than users"),
        (200, b"[" * 17_000_000, "sent too much"),
    ],
)
async def test_a_failing_source_ends_the_run_with_a_reason(
    start_syncer: StartSyncer,
    upstream: Upstream,
    redis: Redis,
    database: Database,
    status: int,
    body: bytes,
    message: str,
) -> None:
    upstream.answers = [(status, body)]
    async with start_syncer(url=upstream.url):
        run = await _sync(redis, database)
    assert run["state"] == "failed"
    assert message in run["error"]
    assert len(upstream.requests) == 3


async def test_a_moments_failure_is_retried(
    start_syncer: StartSyncer, upstream: Upstream, redis: Redis, database: Database
) -> None:
    upstream.answers = [(503, b""), (200, SAMPLE.read_bytes())]
    async with start_syncer(url=upstream.url):
        run = await _sync(redis, database)
    assert run["created"] == 10


async def test_replicas_make_one_run_of_a_tick(
    start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    source = Offers(Fetched([lead_fields() for _ in range(10)], []))
    tick = datetime(2026, 1, 1, tzinfo=UTC)
    async with start_syncer(source=source), start_syncer(source=source):
        for _replica in range(3):
            await request_sync(tick, OncePublisher(redis, Divisions(redis)))
        await eventually(lambda: _ended(database))
        await request_sync(tick + timedelta(minutes=2), OncePublisher(redis, Divisions(redis)))
        await eventually(lambda: _ended(database, runs=2))
    assert source.fetches == 2


async def test_the_schedule_ticks(start_syncer: StartSyncer, database: Database) -> None:
    source = Offers(Fetched([lead_fields()], []))
    async with start_syncer(source=source, cron="* * * * * *"):
        await eventually(lambda: _ended(database, runs=2))
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT requested_by FROM leads.sync_run")
    assert {row["requested_by"] for row in rows} == {"schedule"}


async def _sync(redis: Redis, database: Database) -> asyncpg.Record:
    event = Event(source="tests", subject="sync", data=SyncRequested(requested_by="tests"))
    await add_events(redis, [event])

    async def ended() -> asyncpg.Record | None:
        async with database.connection() as connection:
            return await connection.fetchrow(
                "SELECT * FROM leads.sync_report WHERE id = $1 AND state <> 'running'", event.id
            )

    run = await eventually(ended)
    assert run is not None
    return run


async def _ended(database: Database, *, runs: int = 1) -> bool:
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT * FROM leads.sync_report WHERE state = 'succeeded'")
    return len(rows) >= runs


def _counts(run: asyncpg.Record) -> dict[str, int]:
    return {name: run[name] for name in ("fetched", "created", "duplicate", "invalid", "unknown")}


def _expected(user: dict[str, Any]) -> dict[str, Any]:
    return {
        "first_name": user["name"]["first"],
        "last_name": user["name"]["last"],
        "email": user["email"],
        "phone": user["phone"],
        "cell": user["cell"],
        "dob": user["dob"]["date"],
        "city": user["location"]["city"],
        "state": user["location"]["state"],
        "country": user["location"]["country"],
        "picture": user["picture"]["large"],
        "source": "randomuser",
    }
