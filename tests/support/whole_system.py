"""API, syncer and summarizer in one process, driven and seen from outside."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import uuid4

import httpx
import psycopg
from aiohttp import web
from pydantic import SecretStr
from redis.asyncio import Redis

from services.api.settings import ApiSettings, AuthSettings, HttpSettings, LimitSettings
from services.syncer.schedule import request_sync
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
# What a flow enters is the same however busy the machine is.
PATIENCE = timedelta(seconds=12)
CONSUMED = {catalog.SUMMARIES, catalog.SYNC, catalog.IMPORTS}

OpenServices = Callable[[], contextlib.AbstractAsyncContextManager[None]]


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


def services_on(
    postgres: PostgresSettings, streams: StreamsSettings, cache: CacheSettings
) -> OpenServices:
    """Return what runs a syncer and a summarizer."""

    @contextlib.asynccontextmanager
    async def open_() -> AsyncGenerator[None]:
        async with (
            people_server() as people,
            running_syncer(postgres, streams, cache, url=people),
            running_summarizer(summarizer_settings(postgres, streams)),
        ):
            yield

    return open_


@contextlib.asynccontextmanager
async def open_system(
    postgres: PostgresSettings, streams: StreamsSettings, cache: CacheSettings, redis: Redis
) -> AsyncGenerator[System]:
    """Serve the API, and yield what a client does with it."""
    async with (
        await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as database,
        open_api_client(postgres, streams, cache) as client,
    ):
        yield System(client, redis, database)


@contextlib.asynccontextmanager
async def open_api_client(
    postgres: PostgresSettings, streams: StreamsSettings, cache: CacheSettings
) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve the API, and yield a client who is signed in."""
    async with AuthServer() as auth:
        settings = ApiSettings(
            http=HttpSettings(
                port=0,
                api_host="127.0.0.1",
                api_key=SecretStr(OPERATOR_KEY),
                create_timeout=PATIENCE,
                publish_timeout=PATIENCE,
                read_timeout=PATIENCE,
            ),
            auth=AuthSettings(supabase_uri=auth.url, supabase_key=SecretStr("sb_secret_tests")),
            limits=LimitSettings(),
            postgres=postgres,
            streams=streams,
            cache=cache,
            observability=ObservabilitySettings(),
        )
        async with running_api(settings, token=auth.token()) as client:
            yield client
