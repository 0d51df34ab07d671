"""The whole journey by way of PgBouncer in transaction mode, with two APIs that take turns."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from devstack.data_directory import scratch_directory
from devstack.servers.postgres import EmbeddedPostgres
from services.api.settings import LimitSettings
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.migrations.runner import migrate
from tests.support.api import api_settings_of, running_api
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.pgbouncer import KEEPS_STATEMENTS, PROGRAM, SESSIONS, PgBouncer, version
from tests.support.summarizer import running_summarizer, summarizer_settings
from tests.support.syncer import running_syncer

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs pgbouncer")

SETTINGS = """
    SELECT name, setting FROM pg_settings
    WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding')
"""


KEEPING = pytest.param(
    200,
    id="keeps statements",
    marks=pytest.mark.skipif(version() < KEEPS_STATEMENTS, reason="needs a newer pgbouncer"),
)


@pytest.fixture(scope="module", params=[pytest.param(0, id="keeps none"), KEEPING])
async def bouncer(
    postgres: EmbeddedPostgres, request: pytest.FixtureRequest
) -> AsyncGenerator[PgBouncer]:
    with scratch_directory() as directory:
        async with PgBouncer(directory / "b", postgres.dsn, prepared=request.param) as running:
            yield running


@pytest.fixture
def pooled_settings(bouncer: PgBouncer, postgres_dsn: str) -> PostgresSettings:
    return PostgresSettings(
        supabase_connection_string=SecretStr(bouncer.pooled(postgres_dsn)),
        postgres_statement_cache="on" if bouncer.keeps_statements else "auto",
    )


@pytest.fixture
async def apis(
    pooled_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    auth: AuthServer,
) -> AsyncGenerator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    settings = api_settings_of(
        auth,
        pooled_settings,
        streams_settings,
        cache_settings,
        limits=LimitSettings(rate_limit=None),
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            running_syncer(pooled_settings, streams_settings, cache_settings)
        )
        await stack.enter_async_context(
            running_summarizer(summarizer_settings(pooled_settings, streams_settings))
        )
        one, two = [
            await stack.enter_async_context(running_api(settings, token=auth.token()))
            for _ in range(2)
        ]
        yield one, two


async def test_everything_works_and_nothing_is_left_behind(
    apis: tuple[httpx.AsyncClient, httpx.AsyncClient], bouncer: PgBouncer, postgres_dsn: str
) -> None:
    one, two = apis
    created = await asyncio.gather(
        *(api.post("/leads", json=lead_body(city="Rome")) for api in apis for _ in range(20))
    )
    assert [answer.status_code for answer in created] == [201] * 40
    lead = created[0].json()
    changed = await two.patch(f"/leads/{lead['id']}", json={"city": "Oslo"})
    assert changed.status_code == 200
    assert changed.json()["createdAt"] == lead["createdAt"]
    summarised = await one.post(f"/leads/{lead['id']}/summary")
    assert summarised.status_code == 200, summarised.text
    for number in range(6):
        await read_all(apis[number % 2], lead)
    assert (await two.delete(f"/leads/{lead['id']}")).status_code == 204
    assert await left_behind(bouncer.pooled(postgres_dsn)) == []


async def left_behind(dsn: str) -> list[tuple[str, str]]:
    """Return what is set in any of the pooler's sessions with a database."""
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn))
            for _ in range(SESSIONS)
        ]
        # In transactions, so that each has a session of its own.
        cursors = [await session.execute(SETTINGS) for session in sessions]
        return [(row[0], row[1]) for cursor in cursors for row in await cursor.fetchall()]


async def read_all(api: httpx.AsyncClient, lead: dict[str, object]) -> None:
    pages = (
        "/leads?limit=5",
        "/leads?q=oslo",
        "/leads?status=new&sort=updatedAt",
        "/leads?createdAfter=2026-01-01T00:00:00Z",
        f"/leads/{lead['id']}/history",
        f"/leads/{lead['id']}/summaries",
        "/leads/export",
        "/health/ready",
    )
    for answer in await asyncio.gather(*(api.get(page) for page in pages)):
        assert answer.status_code == 200, answer.text


async def test_migrations_leave_no_lock_and_nothing_set(
    bouncer: PgBouncer, postgres: EmbeddedPostgres
) -> None:
    direct, pooled = postgres.dsn_of("pooled"), bouncer.pooled(postgres.dsn_of("pooled"))
    async with await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as server:
        await server.execute("DROP DATABASE IF EXISTS pooled WITH (FORCE)")
        await server.execute("CREATE DATABASE pooled")
        applied = await asyncio.gather(*(asyncio.to_thread(migrate, pooled) for _ in range(2)))
        assert sorted(map(bool, applied)) == [False, True]
        for dsn in (pooled, direct, pooled):
            assert await asyncio.to_thread(migrate, dsn) == []
        locks = await server.execute("SELECT FROM pg_locks WHERE locktype = 'advisory'")
        assert await locks.fetchall() == []
        assert await left_behind(pooled) == []
