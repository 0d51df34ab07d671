"""I5: the position moves over an event only once it is committed, cached and answered."""

import random
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from shared.events.envelope import Event
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.streams.codec import entries_of
from shared.streams.publisher import add_events
from tests.faults.conftest import Figure
from tests.faults.crashing_syncer import Point, dies
from tests.faults.database import Tables
from tests.faults.scale import scaled
from tests.faults.streams import leads_drained
from tests.faults.system import inherited
from tests.support.builders import lead_created
from tests.support.syncer import running_syncer

KILLS = scaled(2, 20)
BATCH = 20
LEASE = timedelta(seconds=0.4)


@pytest.fixture
def environment(
    postgres_settings: PostgresSettings, streams_settings: StreamsSettings
) -> dict[str, str]:
    """Return an impatient syncer's settings."""
    return {
        **inherited(),
        "ENV_FILE": "",
        "SUPABASE_CONNECTION_STRING": postgres_settings.dsn,
        "REDIS_URL": streams_settings.url,
        "STREAM_LEASE": str(LEASE.total_seconds()),
        "STREAM_BLOCK": "0.1",
    }


@pytest.fixture
def tables(postgres_dsn: str) -> Tables:
    return Tables(postgres_dsn)


async def kill_at(
    point: Point,
    number: int,
    *,
    environment: Mapping[str, str],
    redis: Redis,
    parts: str = "good",
) -> Sequence[Event]:
    """Kill a syncer in the middle of a batch; returns the batch."""
    mark = f"{point}-{number}"
    events = [lead_created(correlation_id=mark, reply_to=f"reply:{mark}") for _ in range(BATCH)]
    await add_events(redis, events)
    assert await dies(point, mark, parts, environment=environment)
    return events


async def check_effects(tables: Tables, redis: Redis, events: Sequence[Event]) -> None:
    """Fail unless every event is done, and has exactly one effect and its replies."""
    await leads_drained(redis, tables)
    leads = [str(row[0]) for row in await tables.rows("SELECT id FROM leads.lead")]
    lost = {event.subject for event in events} - set(leads)
    assert (len(lost), len(leads)) == (0, len(events))
    assert await tables.value("SELECT count(*) FROM leads.event") == len(events)
    assert await tables.dead_letters() == []
    for event in events:
        assert event.reply_to is not None
        replies = entries_of(await redis.xrange(event.reply_to))
        assert str(event.id) in {reply.event_id for reply in replies}


async def test_kills_at_every_point_lose_and_double_nothing(
    environment: dict[str, str],
    redis: Redis,
    tables: Tables,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    chance: random.Random,
    figure: Figure,
) -> None:
    points = list(Point) * KILLS
    chance.shuffle(points)
    events: list[Event] = []
    for number, point in enumerate(points):
        events += await kill_at(point, number, environment=environment, redis=redis)
    async with running_syncer(postgres_settings, streams_settings, CacheSettings(), lease=LEASE):
        await check_effects(tables, redis, events)
    figure(f"{len(Point)} points x {KILLS} kills, {len(events):,} events: 0 lost, 0 doubled")


async def test_control_moving_on_reading_loses_events(
    environment: dict[str, str],
    redis: Redis,
    tables: Tables,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    figure: Figure,
) -> None:
    events = await kill_at(
        Point.BEFORE_COMMIT,
        0,
        environment=environment,
        redis=redis,
        parts="moves-on-reading",
    )
    async with running_syncer(postgres_settings, streams_settings, CacheSettings(), lease=LEASE):
        with pytest.raises(AssertionError, match=rf"assert \({BATCH}, 0\)"):
            await check_effects(tables, redis, events)
    figure(f"a position that moves on reading: {BATCH} of {BATCH} lost")
