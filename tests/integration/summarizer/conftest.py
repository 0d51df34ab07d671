"""Desks: summarizers without their process, on real servers."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from redis.asyncio import Redis

from services.summarizer.providers import Provider
from shared.settings import StreamsSettings
from shared.storage.pool import Database
from tests.support.summaries import Desk, open_desk

OpenDesk = Callable[..., AbstractAsyncContextManager[Desk]]


@pytest.fixture
def desk_of(database: Database, redis: Redis, streams_settings: StreamsSettings) -> OpenDesk:
    """Return a function that opens a desk around a provider."""

    def open_one(provider: Provider, **options: Any) -> AbstractAsyncContextManager[Desk]:
        return open_desk(database, redis, streams_settings, provider, **options)

    return open_one
