"""While a syncer waits, its log says so once, and Redis tells whoever asks."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from ops.running import Servers
from shared.events.catalog import LEADS
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.inbox import EventStore
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from shared.streams.troubles import Troubles
from tests.support import outage_states as states
from tests.support.builders import lead_created
from tests.support.eventually import eventually
from tests.support.outage_log import outage_lines
from tests.support.outage_states import State
from tests.support.syncer import running_syncer


@pytest.fixture
async def logs(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> AsyncGenerator[list[Any]]:
    """Run a syncer that is impatient with PostgreSQL, and yield what it logs."""
    update = {"postgres_timeout": timedelta(milliseconds=300)}
    impatient = postgres_settings.model_copy(update=update)
    with capture_logs() as captured:
        async with running_syncer(impatient, streams_settings, cache_settings):
            yield captured


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (states.full_disk, "No space left"),
        (states.really_full_disk, "No space left"),
        (states.read_only, "read-only transaction"),
        (states.locked, "PostgreSQL"),
    ],
)
async def test_a_database_that_takes_no_writes(
    state: State, words: str, logs: list[Any], redis: Redis, database: Database
) -> None:
    event = lead_created()
    store, troubles = EventStore(database), Troubles(redis)

    async def is_told() -> bool:
        told = await troubles.told()
        return any(words in one.reason and one.waits and one.stream == LEADS for one in told)

    async with state(Servers(redis, database)):
        await add_events(redis, [event])
        await eventually(is_told)
        assert outage_lines(logs) == [("began", "postgres")]
    await eventually(lambda: store.is_applied(event.id))

    async def is_over() -> bool:
        return len(outage_lines(logs)) > 1 and not await troubles.told()

    await eventually(is_over)
    assert outage_lines(logs) == [("began", "postgres"), ("ended", "postgres")]


async def test_a_group_that_stops_trimming(
    logs: list[Any], redis: Redis, database: Database
) -> None:
    async with states.orphaned_group(Servers(redis, database)):
        await eventually(lambda: _tells(redis, "backfill does not go on"), within=LONG)
        assert len(outage_lines(logs)) == 1
    await eventually(lambda: _is_over(logs), within=LONG)
    await eventually(lambda: _tells_nothing(redis))


LONG = timedelta(seconds=20)  # chores come every five


async def _tells(redis: Redis, words: str) -> bool:
    return any(words in one.reason and not one.waits for one in await Troubles(redis).told())


async def _tells_nothing(redis: Redis) -> bool:
    return not await Troubles(redis).told()


async def _is_over(logs: list[Any]) -> bool:
    return [event for event, _ in outage_lines(logs)] == ["began", "ended"]
