"""Giving parked events another chance."""

from collections.abc import Sequence

from redis.asyncio import Redis

from shared.events.dead_letter import DeadLetter
from shared.streams.connection import translated_errors
from shared.streams.readdress import readdressed


async def add_letters(redis: Redis, letters: Sequence[DeadLetter]) -> None:
    """Put parked entries back into their streams, each for its group's first attempt.

    Raises `UnavailableError`; some may have been added then, and adding them again is safe.
    """
    with translated_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            for letter in letters:
                fields = {name.encode(): value.encode() for name, value in letter.fields.items()}
                pipeline.xadd(letter.stream, readdressed(fields, group=letter.group))
            await pipeline.execute()
