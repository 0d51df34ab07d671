"""What the tutorial's tests share: workers whose handlers they write themselves."""

import pytest
from redis.asyncio import Redis

from shared.settings import StreamsSettings
from shared.storage.pool import Database
from tests.support.ordered_workers import OrderedWorkers
from tests.support.workers import Workers


@pytest.fixture
def workers(redis: Redis, streams_settings: StreamsSettings) -> Workers:
    """Return what runs workers on `stream:summaries`, with an empty Redis."""
    return Workers(redis, streams_settings)


@pytest.fixture
def ordered_workers(
    redis: Redis, streams_settings: StreamsSettings, database: Database
) -> OrderedWorkers:
    """Return what runs workers on the partitions of `stream:leads`, with empty servers."""
    return OrderedWorkers(redis, streams_settings, database)
