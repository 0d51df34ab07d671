"""Retrying and discarding dead letters, one or many."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.storage.dead_letters import (
    DeadLetterRepository,
    KeptLetter,
    LetterSelection,
)
from shared.storage.pool import Database
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import requeue_letters

PAGE = 200

# An entry that could not be decoded when it came cannot be decoded now.
HOPELESS = "undecodable"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryReport:
    """How many letters went back into their streams, and how many could not."""

    retried: int = 0
    hopeless: int = 0


class DeadLetters:
    """Parked events, as operators handle them."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._divisions = Divisions(redis)
        self.letters = DeadLetterRepository(database)

    async def retry(self, selection: LetterSelection) -> RetryReport:
        """Put letters back into their streams, then remove them: never the other way round.

        Those of one key go back in the order in which they were parked. A letter whose event is
        parked again in between stays.
        """
        retried = hopeless = 0
        async for page in self._pages(selection):
            hopeful = [kept for kept in page if kept.letter.reason != HOPELESS]
            await requeue_letters(self._redis, [kept.letter for kept in hopeful], self._divisions)
            await self.letters.remove_letters(hopeful)
            retried += len(hopeful)
            hopeless += len(page) - len(hopeful)
        return RetryReport(retried=retried, hopeless=hopeless)

    async def discard(self, selection: LetterSelection) -> int:
        """Remove letters for good; returns how many."""
        discarded = 0
        async for page in self._pages(selection):
            discarded += await self.letters.remove_letters(page)
        return discarded

    async def _pages(self, selection: LetterSelection) -> AsyncGenerator[list[KeptLetter]]:
        after = 0
        while page := await self.letters.oldest(selection, limit=PAGE, after=after):
            yield page
            after = page[-1].id
