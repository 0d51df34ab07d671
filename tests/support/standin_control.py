"""The remote control of a stand-in: faults on, faults off, counters."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.support.eventually import eventually

TIMEOUT = aiohttp.ClientTimeout(total=10)


class StandInControl:
    """Speaks to `/_control` of the stand-in at this origin."""

    def __init__(self, origin: str) -> None:
        self._url = f"{origin.rstrip('/')}/_control"

    @asynccontextmanager
    async def misbehaving(self, **faults: Any) -> AsyncGenerator[None]:
        """Switch faults on for the length of the block, and count from zero."""
        await self._ask("DELETE")
        await self._ask("POST", json=faults)
        try:
            yield
        finally:
            await self._ask("DELETE")

    async def counter(self, name: str) -> int:
        """Return a counter's value since the faults were last changed."""
        counters: dict[str, int] = (await self._ask("GET"))["counters"]
        return counters.get(name, 0)

    async def change_keys(self, change: str) -> None:
        """Have an auth server `add-standby`, `rotate` or `revoke` its signing keys."""
        await self._ask("POST", path=f"/keys/{change}")

    async def is_asked(self) -> None:
        """Wait until a call is under way."""

        async def probe() -> bool:
            return await self.counter("in_flight") > 0

        await eventually(probe)

    async def _ask(self, method: str, *, path: str = "", **options: Any) -> Any:
        # A connection for each: the stand-in may have been started again in between.
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.request(method, self._url + path, **options) as response,
        ):
            assert response.status == 200, await response.text()
            return await response.json()
