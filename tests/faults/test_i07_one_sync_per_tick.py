"""I7: one committed sync per tick, however many replicas tick, and whichever sleeps meanwhile."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from aiohttp import web
from redis.asyncio import Redis

from devstack.standins.randomuser import RandomUserSettings, create_app
from devstack.standins.serving import running
from services.syncer.handlers.sync_requested import SyncRequestedHandler
from services.syncer.schedule import request_sync
from services.syncer.sources import Fetched
from shared.background import background
from shared.events import catalog
from shared.events.data import SyncRequested
from shared.events.envelope import Event
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from shared.storage.sync_runs import SyncRunRepository
from shared.streams.consuming.group import Group
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import OncePublisher
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.forks import forks
from tests.faults.scale import scaled
from tests.faults.streams import drained, leads_drained
from tests.support.builders import lead_fields
from tests.support.eventually import eventually
from tests.support.partitions import lead_entries

TICKS = scaled(12, 500)
REPLICAS = 3
RESULTS = 3
STOPS = scaled(3, 50)
# Well past the lease of 0.3 s, and the beats in between.
SLEEP = 0.8
FETCH = timedelta(milliseconds=30)


async def check_one_effect(tables: Tables, redis: Redis, *, ticks: int) -> None:
    """Fail unless each tick has one run that succeeded, and one set of leads."""
    runs = await tables.rows("SELECT state, count(*) FROM leads.sync_run GROUP BY state")
    assert dict(runs) == {"succeeded": ticks}
    published = len(await lead_entries(redis))
    assert published == ticks * RESULTS, f"{published} leads of {ticks * RESULTS} were published"


@pytest.fixture
async def source_url() -> AsyncGenerator[str]:
    """Serve people of whom no two are the same, after a while."""
    app: web.Application = create_app(
        RandomUserSettings.model_validate({"faults": {"delay": FETCH}})
    )
    async with running(app, RandomUserSettings()) as url:
        yield str(url / "api/")


async def tick_everywhere(redis: Redis, number: int) -> None:
    """Have every replica ask for the same tick's sync."""
    tick = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=2 * number)
    replicas = [OncePublisher(redis, Divisions(redis)) for _ in range(REPLICAS)]
    await asyncio.gather(*(request_sync(tick, replica) for replica in replicas))


async def holder(redis: Redis) -> int:
    """Return the process that runs a sync right now; its name ends with its pid."""
    group = Group(redis, redis, stream=catalog.SYNC, group=catalog.SYNCER, consumer="tests")
    while True:
        for pending in await group.pending(idle=timedelta(0), count=1):
            return int(pending.consumer.rpartition(":")[2].partition("-")[0])
        await asyncio.sleep(0)


async def put_to_sleep(redis: Redis, slept: list[int]) -> None:
    """Stop the process that holds a run until long after its lease, again and again."""
    while len(slept) < STOPS:
        process = await holder(redis)
        os.kill(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(SLEEP)
        finally:
            os.kill(process, signal.SIGCONT)
        slept.append(process)


async def test_a_tick_has_one_effect(
    redis: Redis,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    source_url: str,
    figure: Figure,
) -> None:
    slept: list[int] = []

    async def all_slept() -> bool:
        return len(slept) == STOPS

    environment = {"RANDOMUSER_URL": source_url, "SYNC_RESULTS": str(RESULTS)}
    async with forks("plain", postgres_settings, streams_settings, number=REPLICAS, **environment):
        await eventually(lambda: redis.exists(catalog.SYNC))
        async with background(put_to_sleep(redis, slept), name="sleep"):
            for number in range(TICKS):
                await tick_everywhere(redis, number)
                await asyncio.sleep(SLEEP * STOPS / TICKS)
            await eventually(all_slept)
        tables = Tables(postgres_settings.dsn)
        await drained(redis, stream=catalog.SYNC)
        await leads_drained(redis, tables)
        await check_one_effect(tables, redis, ticks=TICKS)
    figure(f"{TICKS} ticks, {REPLICAS} replicas, {STOPS} holders asleep past the lease: 0 doubled")


class PublishesAlways(OncePublisher):
    """Publishes whatever the name."""

    async def publish(self, name: str, events: Sequence[Event]) -> list[str]:
        return await super().publish(f"{name}:{uuid4()}", events)


class Sleepy:
    """A source whose first caller wakes up with its answer when a second one has come."""

    name = "sleepy"

    def __init__(self) -> None:
        self._calls = 0
        self._second_came = asyncio.Event()

    async def fetch(self, count: int) -> Fetched:
        self._calls += 1
        if self._calls == 2:
            self._second_came.set()
        await self._second_came.wait()
        return Fetched([lead_fields() for _ in range(count)], [])


async def run_twice(publisher: OncePublisher, database: Database) -> None:
    """Run one tick's sync, and again, as a replica does that takes the first for dead."""
    handler = SyncRequestedHandler(
        Sleepy(),
        publisher,
        SyncRunRepository(database),
        results=RESULTS,
        timeout=timedelta(seconds=0.3),
    )
    event = Event(source="tests", subject="sync", data=SyncRequested(requested_by="tests"))
    await asyncio.gather(handler([event]), handler([event]))


async def test_a_run_that_is_taken_over_publishes_once(
    redis: Redis, database: Database, postgres_dsn: str, figure: Figure
) -> None:
    await run_twice(OncePublisher(redis, Divisions(redis)), database)
    await check_one_effect(Tables(postgres_dsn), redis, ticks=1)
    figure("a holder that wakes up in the middle of its successor's run: 0 doubled")


async def test_control_without_its_name_a_run_publishes_twice(
    redis: Redis, database: Database, postgres_dsn: str, figure: Figure
) -> None:
    await run_twice(PublishesAlways(redis, Divisions(redis)), database)
    with pytest.raises(AssertionError, match="were published") as failed:
        await check_one_effect(Tables(postgres_dsn), redis, ticks=1)
    figure(f"publishing without a name: {str(failed.value).splitlines()[0]}")
