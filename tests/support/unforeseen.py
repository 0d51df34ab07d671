"""A whole system in this process, under traffic, for servers that answer what nobody foresaw."""

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar

import httpx
from pydantic import SecretStr
from yarl import URL

from services.api.settings import LimitSettings
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from tests.support.api import api_settings_of, running_api
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.fault_injection import FaultProxy
from tests.support.summarizer import running_summarizer, summarizer_settings
from tests.support.syncer import running_syncer

# How long a fault lasts, and how long after it all must be well.
LASTS = 0.3
RECOVERY = timedelta(seconds=5)
LOST_ID = "00000000-0000-7000-8000-000000000000"

# `EVERY_ERROR=1` tries them all; else there is a choice, by `SEED`.
IN_SHORT = 5
SEED = os.environ.get("SEED") or str(random.SystemRandom().randrange(1_000_000))

Case = TypeVar("Case")
Inject = Callable[[], None]


def chosen(cases: Sequence[Case]) -> Sequence[Case]:
    """Return the cases for this run."""
    if os.environ.get("EVERY_ERROR") == "1":
        return cases
    sys.stdout.write(f"SEED={SEED}\n")
    return random.Random(SEED).sample(cases, IN_SHORT)


class Traffic:
    """Creates, reads, lists, summarises and asks for readiness; knows what was accepted."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.accepted: list[str] = []
        self.wrong: list[str] = []
        self.name = ""

    async def run(self, *, seconds: float) -> None:
        """Send for so long; what is no answer that a client may get is noted as wrong."""
        until = time.monotonic() + seconds
        works = (self._create, self._create, self._read, self._list, self._summarise, self._ready)
        await asyncio.gather(*(self._repeat(work, until) for work in works))

    async def _repeat(self, work: Callable[[], Awaitable[httpx.Response]], until: float) -> None:
        while time.monotonic() < until:
            answer = await work()
            if answer.status_code not in {200, 201, 202, 503}:
                self.wrong.append(f"{self.name}: {answer.request.url.path} {answer.status_code}")
            await asyncio.sleep(0.02)

    async def _create(self) -> httpx.Response:
        answer = await self._client.post("/leads", json=lead_body())
        if answer.status_code == 201:
            self.accepted.append(f"/leads/{answer.json()['id']}")
        elif answer.status_code == 202:
            self.accepted.append(f"/operations/{answer.json()['id']}")
        return answer

    async def _read(self) -> httpx.Response:
        return await self._client.get(self._some_lead())

    async def _list(self) -> httpx.Response:
        return await self._client.get("/leads?limit=1")

    async def _summarise(self) -> httpx.Response:
        headers = {"Prefer": "respond-async"}
        return await self._client.post(f"{self._some_lead()}/summary", headers=headers)

    async def _ready(self) -> httpx.Response:
        return await self._client.get("/health/ready")

    def _some_lead(self) -> str:
        leads = [place for place in self.accepted if place.startswith("/leads")]
        return leads[-1] if leads else f"/leads/{LOST_ID}"

    async def is_well(self) -> bool:
        """Have all services do their work."""
        created = await self._create()
        assert created.status_code == 201, created.text
        summarised = await self._client.post(f"/leads/{created.json()['id']}/summary")
        assert summarised.status_code == 200, summarised.text
        return True

    async def recovers(self) -> None:
        """Note how long it takes until all is well, if that is too long."""
        try:
            await eventually(self.is_well, within=RECOVERY)
        except AssertionError as error:
            self.wrong.append(f"{self.name}: not well in time: {error}"[:300])

    async def try_all(self, faults: FaultProxy, cases: Sequence[tuple[str, Inject]]) -> None:
        """Have it go well, then wrong in each way of this run's choice, and well again."""
        await self.recovers()
        for self.name, inject in chosen(cases):
            faults.injected = 0
            inject()
            await self.run(seconds=LASTS)
            faults.heal()
            await self.recovers()
            assert faults.injected, self.name
        assert self.wrong == []
        await eventually(self.are_stored)

    async def are_stored(self) -> bool:
        """Have every accepted lead be there."""

        async def is_there(place: str) -> bool:
            answer = await self._client.get(place)
            return answer.status_code == 200 and answer.json()["status"] in {"new", "succeeded"}

        for start in range(0, len(self.accepted), 50):
            some = self.accepted[start : start + 50]
            assert all(await asyncio.gather(*map(is_there, some)))
        return True


def port_of(url: str) -> int:
    """Return the port that an address names."""
    port = URL(url).port
    assert port is not None
    return port


@asynccontextmanager
async def system_behind(
    auth: AuthServer, *, postgres_dsn: str, redis_url: str
) -> AsyncGenerator[Traffic]:
    """Run API, syncer and summarizer on these servers."""
    database = PostgresSettings(supabase_connection_string=SecretStr(postgres_dsn))
    streams = StreamsSettings(redis_url=SecretStr(redis_url))
    cache = CacheSettings()
    settings = api_settings_of(
        auth, database, streams, cache, limits=LimitSettings(rate_limit=None)
    )
    async with (
        running_syncer(database, streams, cache),
        running_summarizer(summarizer_settings(database, streams)),
        running_api(settings, token=auth.token()) as client,
    ):
        yield Traffic(client)
