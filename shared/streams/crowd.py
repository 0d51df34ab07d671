"""Who works in a process: many beside each other, or one alone.

When a process dies, everything that was being worked on in it may have been the cause.
Only what was alone is found out.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator


class Crowd:
    """Shared by all that takes entries in a process."""

    def __init__(self) -> None:
        self._number = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._loner = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def beside_others(self) -> AsyncGenerator[None]:
        """Work beside others, once nobody is alone or waits to be."""
        while not self._is_open.is_set():
            await self._is_open.wait()
        self._number += 1
        self._is_empty.clear()
        try:
            yield
        finally:
            self._number -= 1
            if not self._number:
                self._is_empty.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        """Work alone, once everybody has finished; nobody new begins meanwhile."""
        async with self._loner:
            self._is_open.clear()
            try:
                await self._is_empty.wait()
                yield
            finally:
                self._is_open.set()
