"""The places in which a consumer's handlers run."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator


class Slots:
    """A semaphore that tells how many places are free."""

    def __init__(self, number: int) -> None:
        self._semaphore = asyncio.Semaphore(number)
        self.free = number

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncGenerator[None]:
        """Hold a place for the length of the block."""
        async with self._semaphore:
            self.free -= 1
            try:
                yield
            finally:
                self.free += 1

    async def wait_for_free(self) -> int:
        """Wait until at least one place is free; returns how many are."""
        async with self._semaphore:
            return max(1, self.free)
