"""How many files a flow enters: the measure of how far it can be read from top to bottom.

Each flow runs whole in this process, API and services together. Counted are the modules of the
product in which a line ran between a request and the end of what followed from it.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, LiteralString
from uuid import uuid4

import httpx
import psycopg
import pytest
from aiohttp import web
from pydantic import SecretStr
from redis.asyncio import Redis

from services.api.settings import ApiSettings, AuthSettings, HttpSettings, LimitSettings
from services.syncer.schedule import request_sync
from shared.domain.lead import email_key
from shared.events import catalog
from shared.settings import CacheSettings, ObservabilitySettings, PostgresSettings, StreamsSettings
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import OncePublisher
from tests.support.api import running_api
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.partitions import all_leads_done
from tests.support.repository import ROOT
from tests.support.summarizer import running_summarizer, summarizer_settings
from tests.support.syncer import running_syncer

PEOPLE = ROOT / "tests/support/samples/randomuser-20.json"
OPERATOR_KEY = "the-operators-key"
OPERATOR = {"X-API-Key": OPERATOR_KEY}
CONSUMED = {catalog.SUMMARIES, catalog.SYNC, catalog.IMPORTS}

# What runs beside every flow, by the names of tasks: no part of it.
CHORES = ("chore ", "sweeper", "stream capacity")

# Idle consumers read their streams at any moment: a flow enters what it entered each time.
TIMES = 4

BOUNDS = {"create": 47, "cached read": 13, "summary": 49, "tick": 40, "replay": 55, "import": 55}


OpenServices = Callable[[], contextlib.AbstractAsyncContextManager[None]]


class Trace:
    """Notes the modules of services and shared in which a line runs, in threads too."""

    def __init__(self) -> None:
        self._entered: set[str] = set()
        self._known: dict[str, str | None] = {}

    @contextlib.contextmanager
    def installed(self) -> Generator[None]:
        """Watch this thread, and those that the event loop lends from now on."""
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(initializer=lambda: sys.settrace(self._note))
        loop.set_default_executor(executor)
        sys.settrace(self._note)
        try:
            yield
        finally:
            sys.settrace(None)
            executor.shutdown()
            loop.set_default_executor(ThreadPoolExecutor())

    async def modules(self, flow: Callable[[], Awaitable[object]]) -> set[str]:
        """Return the modules that a flow enters."""
        self._entered = set()
        await flow()
        return self._entered

    def _note(self, frame: FrameType, _event: str, _argument: Any) -> None:
        # A module that is only now imported defines things; it takes no part yet.
        if frame.f_code.co_name != "<module>":
            module = self._module(frame.f_code.co_filename)
            if module is not None and not _task_name().startswith(CHORES):
                self._entered.add(module)

    def _module(self, filename: str) -> str | None:
        if filename not in self._known:
            path = Path(filename)
            is_ours = path.is_relative_to(ROOT / "services") or path.is_relative_to(ROOT / "shared")
            self._known[filename] = str(path.relative_to(ROOT)) if is_ours else None
        return self._known[filename]

    async def always_entered(self, flow: Callable[[], Awaitable[object]]) -> set[str]:
        """Return what a flow enters each time; a first run, which fills caches, does not count."""
        await flow()
        runs = [await self.modules(flow) for _ in range(TIMES)]
        return runs[0].intersection(*runs)


def _task_name() -> str:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # a thread that the event loop has lent
        return ""
    return "" if task is None else task.get_name()


class System:
    """API, syncer and summarizer in this process, driven and seen from outside."""

    def __init__(
        self, client: httpx.AsyncClient, redis: Redis, database: psycopg.AsyncConnection
    ) -> None:
        self._client = client
        self._redis = redis
        self._database = database
        self._lead_id = ""

    async def create(self) -> None:
        response = await self._client.post("/leads", json=lead_body())
        assert response.status_code == 201, response.text
        self._lead_id = response.json()["id"]
        await self._settled()

    async def read(self) -> None:
        response = await self._client.get(f"/leads/{self._lead_id}")
        assert response.status_code == 200, response.text

    async def summarise(self) -> None:
        response = await self._client.post(f"/leads/{self._lead_id}/summary?regenerate=true")
        assert response.status_code == 200, response.text
        await self._settled()

    async def tick(self) -> None:
        await self._database.execute("DELETE FROM leads.lead WHERE source = 'randomuser'")
        await request_sync(datetime.now(UTC), OncePublisher(self._redis, Divisions(self._redis)))
        await self._appears("leads.lead WHERE source = 'randomuser'")

    async def replay(self) -> None:
        await self._database.execute("DELETE FROM leads.lead WHERE id = %s", (self._lead_id,))
        order = {"origin": "archive", "dryRun": False, "types": ["lead-created"]}
        response = await self._client.post("/admin/replays", json=order, headers=OPERATOR)
        assert response.status_code == 202, response.text
        await self._appears("leads.lead WHERE id = %s", self._lead_id)

    async def import_file(self) -> None:
        """Import a good row and a bad one."""
        rows = f"firstName,lastName,email\nGrace,Hopper,{uuid4()}@example.com\n,,\n"
        response = await self._client.post(
            "/leads/import", content=rows, headers={"Content-Type": "text/csv"}
        )
        assert response.status_code == 202, response.text
        await self._appears("leads.event WHERE id = %s", response.json()["id"])

    async def _appears(self, rows: LiteralString, *parameters: str) -> None:
        async def has_appeared() -> bool:
            cursor = await self._database.execute(f"SELECT FROM {rows} LIMIT 1", parameters)
            return cursor.rowcount == 1

        await eventually(has_appeared)
        await self._settled()

    async def _settled(self) -> None:
        """Wait until the groups of all streams have acknowledged all that there is."""
        await eventually(self._is_settled)

    async def _is_settled(self) -> bool:
        for stream in CONSUMED:
            last = (await self._redis.xinfo_stream(stream))["last-generated-id"]
            for group in await self._redis.xinfo_groups(stream):
                if group["pending"] or group["last-delivered-id"] != last:
                    return False
        return await all_leads_done(self._redis)


@contextlib.asynccontextmanager
async def people_server() -> AsyncGenerator[str]:
    """Serve a page of the external source."""
    page = PEOPLE.read_bytes()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=page, content_type="application/json")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.fixture
async def open_services(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> OpenServices:
    @contextlib.asynccontextmanager
    async def open_() -> AsyncGenerator[None]:
        async with (
            people_server() as people,
            running_syncer(postgres_settings, streams_settings, cache_settings, url=people),
            running_summarizer(summarizer_settings(postgres_settings, streams_settings)),
        ):
            yield

    return open_


@pytest.fixture
async def system(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    redis: Redis,
) -> AsyncGenerator[System]:
    async with AuthServer() as auth:
        settings = ApiSettings(
            http=HttpSettings(port=0, api_host="127.0.0.1", api_key=SecretStr(OPERATOR_KEY)),
            auth=AuthSettings(supabase_uri=auth.url, supabase_key=SecretStr("sb_secret_tests")),
            limits=LimitSettings(),
            postgres=postgres_settings,
            streams=streams_settings,
            cache=cache_settings,
            observability=ObservabilitySettings(),
        )
        async with (
            await psycopg.AsyncConnection.connect(
                postgres_settings.dsn, autocommit=True
            ) as database,
            running_api(settings, token=auth.token()) as client,
        ):
            yield System(client, redis, database)


@pytest.fixture
async def trace() -> AsyncGenerator[Trace]:
    trace = Trace()
    with trace.installed():
        yield trace


async def test_flows_enter_few_files(
    system: System,
    open_services: OpenServices,
    trace: Trace,
    measure: Callable[[str], None],
) -> None:
    async with open_services():
        entered = {
            "create": await trace.always_entered(system.create),
            "summary": await trace.always_entered(system.summarise),
            "tick": await trace.always_entered(system.tick),
            "replay": await trace.always_entered(system.replay),
            "import": await trace.always_entered(system.import_file),
        }
        await system.create()
    # Without the services: they take no part, and read their streams all the while.
    entered["cached read"] = await trace.always_entered(system.read)

    for name, modules in entered.items():
        measure(f"{name} enters {len(modules)} files, {BOUNDS[name]} at most")
    too_many = {name: sorted(one) for name, one in entered.items() if len(one) > BOUNDS[name]}
    assert too_many == {}


async def test_the_trace_sees_what_runs_in_threads_too(trace: Trace) -> None:
    modules = await trace.modules(lambda: asyncio.to_thread(email_key, "Ada@Example.com"))

    assert modules == {"shared/domain/lead.py"}
