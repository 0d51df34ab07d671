"""Clients as they should be: they wait for an answer, and repeat under the same key."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from tests.faults.system import APIS, System
from tests.support.builders import lead_body

PASSWORD = "correct horse battery staple"
# The longest any request of these tests may rightly take.
PATIENCE = aiohttp.ClientTimeout(total=40)
PAUSE = 0.05
# By when the system must be itself again.
RECOVERY = timedelta(seconds=60)

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """An API's answer and how long it took."""

    status: int
    body: Any
    seconds: float

    @property
    def is_final(self) -> bool:
        """Whether the client has been given something to rely on.

        A summary that failed has a reason, and fails for it however often it is asked for.
        """
        return self.status in {200, 201, 202} or "reason" in self.body


class Clients:
    """Signed-in clients of a system. They pick an API by chance, as a balancer would."""

    def __init__(
        self,
        system: System,
        session: aiohttp.ClientSession,
        chance: random.Random,
        *,
        user: dict[str, str],
    ) -> None:
        self._user = user
        self._system = system
        self._session = session
        self._chance = chance

    async def ask(
        self, method: str, path: str, *, body: Any = None, api: str | None = None, **headers: str
    ) -> Answer | None:
        """Send one request; None when the connection ended without an answer.

        Where no process listens the request has had no effect, and goes to another API.
        """
        apis = [api] if api else self._chance.sample(APIS, len(APIS))
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        for one in apis:
            began = time.monotonic()
            address = self._system.address(one) + path
            try:
                async with self._session.request(
                    method, address, json=body, headers=given
                ) as response:
                    text = await response.read()
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                return None
            seconds = time.monotonic() - began
            return Answer(response.status, orjson.loads(text or b"null"), seconds)
        return None

    async def log_in(self) -> Answer | None:
        """Log in anew."""
        return await self.ask("POST", "/authentication/login", body=self._user)

    async def create(self, lead: dict[str, Any] | None = None, **headers: str) -> Answer | None:
        """Create a lead once."""
        return await self.ask("POST", "/leads", body=lead or lead_body(), **headers)

    async def create_surely(self, lead: dict[str, Any] | None = None) -> Answer:
        """Create a lead, however often that takes."""
        body = lead or lead_body()
        return await self.insist(lambda key: self.create(body, Idempotency_Key=key))

    async def insist(self, request: Callable[[str], Awaitable[Answer | None]]) -> Answer:
        """Repeat a request under one key until the answer is something to rely on."""
        key = f"{self._chance.random()}-{next(_numbers)}"
        async with asyncio.timeout(RECOVERY.total_seconds()):
            while True:
                answer = await request(key)
                if answer is not None and answer.is_final:
                    return answer
                assert answer is None or answer.status in {429, 503}, answer
                await asyncio.sleep(PAUSE)


@asynccontextmanager
async def clients_of(system: System, chance: random.Random) -> AsyncGenerator[Clients]:
    """Sign a user up, and yield clients that send its token."""
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        user = {"email": f"user.{next(_numbers)}@example.com", "password": PASSWORD}
        base = system.address(APIS[0])
        for path in ("signup", "login"):
            async with session.post(f"{base}/authentication/{path}", json=user) as response:
                assert response.ok, await response.text()
                token = (await response.json()).get("access_token")
    headers = {"Authorization": f"Bearer {token}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        headers=headers, timeout=PATIENCE, connector=connector
    ) as session:
        yield Clients(system, session, chance, user=user)
