"""Which events were accepted lately: what lets an operation be pending before it has a row."""

import hashlib
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.streams.connection import translated_errors
from shared.streams.consuming.group import milliseconds

# What was first asked for under a client's key.

KEYED_PREFIX = "leads:request:"
ACCEPTED_PREFIX = "leads:accepted:"
TIME_TO_LIVE = timedelta(hours=24)


class KeyedRequests:
    """Remembers requests for a day, as hashes. Raises `UnavailableError` when Redis is down."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def is_same(self, request_id: UUID, content: bytes) -> bool:
        """Whether this is what the first request under this id asked for."""
        key, digest = f"{KEYED_PREFIX}{request_id}", hashlib.sha256(content).digest()
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(key, digest, nx=True, ex=TIME_TO_LIVE)
                pipeline.get(key)
                _, first = await pipeline.execute()
        return bool(first == digest)


# Sessions that were ended before their access tokens expire, known to every process.

# No access token of Supabase's lives longer.
REMEMBERED = timedelta(days=7)


class SignOuts:
    """Keeps the names of sessions that are over."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, session: str) -> None:
        """Note that a session is over; raises `UnavailableError`."""
        with translated_errors():
            await self._redis.set(_key(session), b"", px=milliseconds(REMEMBERED))

    async def has(self, session: str) -> bool:
        """Whether a session is known to be over: without Redis, none is."""
        try:
            with translated_errors():
                return bool(await self._redis.exists(_key(session)))
        except UnavailableError:
            return False


def _key(session: str) -> str:
    return f"signed-out:{session}"


class AcceptedEvents:
    """Remembers accepted events for a day. Raises `UnavailableError` when Redis is down."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, *event_ids: UUID) -> None:
        """Remember events that were answered for before they were applied."""
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for event_id in event_ids:
                    pipeline.set(f"{ACCEPTED_PREFIX}{event_id}", b"", ex=TIME_TO_LIVE)
                await pipeline.execute()

    async def has(self, event_id: UUID) -> bool:
        """Whether the event was accepted within the last day."""
        with translated_errors():
            return bool(await self._redis.exists(f"{ACCEPTED_PREFIX}{event_id}"))
