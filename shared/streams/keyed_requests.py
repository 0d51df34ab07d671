"""What was first asked for under a client's key."""

import hashlib
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.streams.connection import translated_errors

PREFIX = "leads:request:"
TIME_TO_LIVE = timedelta(hours=24)


class KeyedRequests:
    """Remembers requests for a day, as hashes. Raises `UnavailableError` when Redis is down."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def is_same(self, request_id: UUID, content: bytes) -> bool:
        """Whether this is what the first request under this id asked for."""
        key, digest = f"{PREFIX}{request_id}", hashlib.sha256(content).digest()
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(key, digest, nx=True, ex=TIME_TO_LIVE)
                pipeline.get(key)
                _, first = await pipeline.execute()
        return bool(first == digest)
