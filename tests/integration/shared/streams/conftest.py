"""Workers whose handlers the test passes in."""

import pytest
from redis.asyncio import Redis

from shared.settings import StreamsSettings
from shared.storage.pool import Database
from tests.support.ordered_workers import OrderedWorkers
from tests.support.workers import Workers


@pytest.fixture
def workers(redis: Redis, streams_settings: StreamsSettings) -> Workers:
    return Workers(redis, streams_settings)


@pytest.fixture
def ordered_workers(
    redis: Redis, streams_settings: StreamsSettings, database: Database
) -> OrderedWorkers:
    return OrderedWorkers(redis, streams_settings, database)
