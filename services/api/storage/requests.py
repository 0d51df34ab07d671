"""Which requests came lately, noted in Redis for a day: as events' ids and as hashes."""

import hashlib
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.redis_connections import translated_errors

CONTENT_PREFIX = "leads:request:"
ACCEPTED_PREFIX = "leads:accepted:"
TIME_TO_LIVE = timedelta(hours=24)


class RequestNotes:
    """What was asked for under an event's id, and which events were accepted.

    An accepted event has been published and answered with 202: by the note its operation is
    known to be pending before its consumer has written a row.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def is_same_content(self, event_id: UUID, content: bytes) -> bool:
        """Note what is asked for, unless noted before; returns whether the note says the same."""
        key, digest = f"{CONTENT_PREFIX}{event_id}", hashlib.sha256(content).digest()
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(key, digest, nx=True, ex=TIME_TO_LIVE)
                pipeline.get(key)
                _, first = await pipeline.execute()
        return bool(first == digest)

    async def note_accepted(self, *event_ids: UUID) -> None:
        """Note events that were answered for before they were applied."""
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for event_id in event_ids:
                    pipeline.set(f"{ACCEPTED_PREFIX}{event_id}", b"", ex=TIME_TO_LIVE)
                await pipeline.execute()

    async def was_accepted(self, event_id: UUID) -> bool:
        """Whether the event was accepted within the last day."""
        with translated_errors():
            return bool(await self._redis.exists(f"{ACCEPTED_PREFIX}{event_id}"))
