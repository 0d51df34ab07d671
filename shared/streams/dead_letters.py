"""Parking what no retry will help. PostgreSQL holds the truth; a small stream is for watching."""

from typing import Protocol

from redis.asyncio.client import Pipeline

from shared.events.dead_letter import DeadLetter

STREAM = "stream:dead-letters"
MAX_LENGTH = 1_000


class DeadLetterStore(Protocol):
    """Where dead letters are kept; one per group and event."""

    async def add(self, letter: DeadLetter) -> None:
        """Keep a letter; one that is there already is replaced. Raises `UnavailableError`."""


def announce(pipeline: Pipeline, letter: DeadLetter) -> None:
    """Queue a notice of the letter, without its contents, for whoever watches."""
    pipeline.xadd(
        STREAM,
        {
            "group": letter.group,
            "id": letter.event_id,
            "stream": letter.stream,
            "type": letter.type,
            "reason": letter.reason,
        },
        maxlen=MAX_LENGTH,
        approximate=True,
    )
