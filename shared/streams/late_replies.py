"""Answers to requests whose own events are acknowledged already."""

from collections.abc import Sequence

from redis.asyncio import Redis

from shared.streams.connection import translated_errors
from shared.streams.replies import Reply, add_replies


class LateReplies:
    """Raises `UnavailableError` when Redis is down; sending twice is harmless."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def send(self, replies: Sequence[Reply]) -> None:
        """Send replies in one round trip."""
        if not replies:
            return
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                add_replies(pipeline, replies)
                await pipeline.execute()
