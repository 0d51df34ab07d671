"""Answers to requests whose own events are acknowledged already."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis

from shared.events.outcome import Outcome
from shared.streams.connection import translated_errors
from shared.streams.replies import add_reply


@dataclass(frozen=True, slots=True)
class LateReply:
    """An outcome on its way to the stream `address`, where the asker of the event reads."""

    address: str
    event_id: UUID
    outcome: Outcome


class LateReplies:
    """Raises `UnavailableError` when Redis is down; sending twice is harmless."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def send(self, replies: Sequence[LateReply]) -> None:
        """Send replies in one round trip."""
        if not replies:
            return
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for reply in replies:
                    add_reply(pipeline, reply.address, reply.event_id, reply.outcome)
                await pipeline.execute()
