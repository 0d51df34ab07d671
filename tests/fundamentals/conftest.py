"""What the tutorial's tests share: workers whose handlers they write themselves."""

import pytest
from redis.asyncio import Redis

from shared.settings import StreamsSettings
from tests.support.workers import Workers


@pytest.fixture
def workers(redis: Redis, streams_settings: StreamsSettings) -> Workers:
    """Return what runs workers on `stream:leads`, with an empty Redis."""
    return Workers(redis, streams_settings)
