"""Workers whose handlers the test passes in."""

import pytest
from redis.asyncio import Redis

from shared.settings import StreamsSettings
from tests.support.workers import Workers


@pytest.fixture
def workers(redis: Redis, streams_settings: StreamsSettings) -> Workers:
    return Workers(redis, streams_settings)
