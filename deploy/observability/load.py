"""Everything that clients do with the system, at a gentle pace: what the dashboard is drawn of."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

ACCOUNT = {"email": "ada@example.com", "password": "analytical engine"}
NEWEST = 500


class Load:
    """Clients of the system at this address. Use as a context manager."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=30)
        self._chance = random.Random(1815)  # noqa: S311 (no secret)
        self._ids: list[str] = []
        self._numbers = itertools.count()

    async def __aenter__(self) -> Self:
        """Sign up and log in."""
        (await self._http.post("/authentication/signup", json=ACCOUNT)).raise_for_status()
        answer = (await self._http.post("/authentication/login", json=ACCOUNT)).raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def run(self, *, seconds: float) -> None:
        """Ask for so long, whatever is answered."""
        works: tuple[tuple[Callable[[], Awaitable[Any]], float], ...] = (
            (self._create, 20),
            (self._read, 60),
            (self._list, 4),
            (self._change, 4),
            (self._delete, 0.5),
            (self._summarise, 1),
            (self._upsert, 2),
            (self._ask_later, 2),
            (self._mistake, 1),
            (self._log_in, 0.2),
            (self._import, 0.02),
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                for ask, per_second in works:
                    tasks.create_task(self._keep(ask, per_second), name=ask.__name__)
                for _ in range(3):
                    tasks.create_task(self._follow(), name="follow")

    async def _keep(self, ask: Callable[[], Awaitable[Any]], per_second: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._once(ask), name=ask.__name__)
                # Busier and quieter minutes.
                pause = self._chance.expovariate(per_second)
                minute = asyncio.get_running_loop().time() / 60
                await asyncio.sleep(pause * (0.6 if int(minute) % 5 < 2 else 1.4))  # noqa: PLR2004

    async def _once(self, ask: Callable[[], Awaitable[Any]]) -> None:
        with contextlib.suppress(httpx.HTTPError):
            await ask()

    def _lead(self) -> dict[str, str]:
        number = next(self._numbers)
        return {
            "firstName": "Grace",
            "lastName": f"Hopper {number}",
            "email": f"grace.{number}.{uuid4().hex[:6]}@example.com",
            "phone": "+1 202 555 0147",
            "city": "Arlington",
            "country": "United States",
        }

    def _some(self) -> str:
        return self._chance.choice(self._ids) if self._ids else str(uuid4())

    async def _create(self) -> None:
        answer = await self._http.post("/leads", json=self._lead())
        if answer.is_success:
            self._ids = [*self._ids[-NEWEST:], answer.json()["id"]]

    async def _read(self) -> None:
        await self._http.get(f"/leads/{self._some()}")

    async def _list(self) -> None:
        await self._http.get("/leads", params={"limit": "20", "q": "hopper"})

    async def _change(self) -> None:
        await self._http.patch(f"/leads/{self._some()}", json={"city": str(uuid4())})

    async def _delete(self) -> None:
        await self._http.delete(f"/leads/{self._ids.pop(0) if self._ids else uuid4()}")

    async def _summarise(self) -> None:
        await self._http.post(f"/leads/{self._some()}/summary?regenerate=true")

    async def _upsert(self) -> None:
        await self._http.put(f"/leads/by-external-id/{uuid4()}", json=self._lead())

    async def _ask_later(self) -> None:
        headers = {"Prefer": "respond-async"}
        await self._http.post("/leads", json=self._lead(), headers=headers)

    async def _mistake(self) -> None:
        await self._http.post("/leads", json={"firstName": "", "email": "nobody"})

    async def _log_in(self) -> None:
        await self._http.post("/authentication/login", json=ACCOUNT)

    async def _import(self) -> None:
        rows = [",".join(self._lead().values()) for _ in range(500)]
        content = "\n".join(["firstName,lastName,email,phone,city,country", *rows, ",,,,,"])
        await self._http.post(
            "/leads/import", content=content, headers={"Content-Type": "text/csv"}
        )

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                headers = {"Accept": "text/event-stream"}
                async with self._http.stream("GET", "/changes", headers=headers, timeout=60) as one:
                    async for _line in one.aiter_lines():
                        pass
            await asyncio.sleep(1)
