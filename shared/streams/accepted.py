"""Which events were accepted lately: what lets an operation be pending before it has a row."""

from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.streams.connection import translated_errors

PREFIX = "leads:accepted:"
TIME_TO_LIVE = timedelta(hours=24)


class AcceptedEvents:
    """Remembers accepted events for a day. Raises `UnavailableError` when Redis is down."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, *event_ids: UUID) -> None:
        """Remember events that were answered for before they were applied."""
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for event_id in event_ids:
                    pipeline.set(f"{PREFIX}{event_id}", b"", ex=TIME_TO_LIVE)
                await pipeline.execute()

    async def has(self, event_id: UUID) -> bool:
        """Whether the event was accepted within the last day."""
        with translated_errors():
            return bool(await self._redis.exists(f"{PREFIX}{event_id}"))
