"""What the system stands on is down or stands still: answers come soon, and nothing is lost.

PostgreSQL and the streams are servers outside of the stack here, as they are for everyone who
sets their addresses, and the API and the syncer run twice.
"""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from os import kill

import psycopg
import pytest
from redis.asyncio import Redis

from devstack.data_directory import scratch_directory
from devstack.servers.postgres import EmbeddedPostgres
from devstack.servers.server import EmbeddedServer
from devstack.servers.valkey import EmbeddedValkey
from tests.e2e.conftest import HASTE
from tests.support.api_client import Answer, ApiClient, open_client
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.forked_process import forked_python
from tests.support.stack import Stack, running_stack
from tests.support.standin_control import StandInControl

SOON = timedelta(seconds=2)
MARGIN = timedelta(seconds=0.5)  # for a busy machine
DATABASE = "outages"


@pytest.fixture(scope="module")
async def outside(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> AsyncGenerator[dict[str, str]]:
    """Yield the addresses of an empty database and an empty Redis."""
    async with Redis.from_url(valkey.url) as redis:
        await redis.flushall()
    async with await psycopg.AsyncConnection.connect(
        postgres.dsn_of("postgres"), autocommit=True
    ) as connection:
        await connection.execute(f"CREATE DATABASE {DATABASE}")
    yield {
        "SUPABASE_CONNECTION_STRING": postgres.dsn_of(DATABASE),
        "REDIS_URL": valkey.url,
    }
    async with await psycopg.AsyncConnection.connect(
        postgres.dsn_of("postgres"), autocommit=True
    ) as connection:
        await connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture(scope="module")
async def twins(outside: dict[str, str]) -> AsyncGenerator[ApiClient]:
    """Yield a client of a system on these servers with two APIs and two syncers."""
    two = dict.fromkeys(("API_WORKERS", "SYNCERS"), "2")
    with scratch_directory() as directory:
        async with (
            running_stack(
                directory / "data", python=forked_python(), **outside, **two, **HASTE
            ) as stack,
            open_client(stack.url) as client,
        ):
            yield client


async def soon(request: Awaitable[Answer]) -> Answer:
    """Await an answer, which must not take longer than a client is promised."""
    started = time.monotonic()
    answer = await request
    assert time.monotonic() - started < (SOON + MARGIN).total_seconds()
    return answer


@asynccontextmanager
async def down(server: EmbeddedServer) -> AsyncGenerator[None]:
    """Have a server dead for the length of the block."""
    await server.kill()
    try:
        yield
    finally:
        await server.start()


@asynccontextmanager
async def hanging(server: EmbeddedServer) -> AsyncGenerator[None]:
    """Have a server take connections and requests, and answer none, for the length of the block."""
    kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        kill(server.pid, signal.SIGCONT)


async def creates_again(client: ApiClient) -> None:
    """Wait until leads are created as if nothing had been."""

    async def created() -> bool:
        answer = await client.post("/leads", json=lead_body())
        return answer.status == 201

    await eventually(created)


async def test_with_postgres_down_creates_are_accepted_and_cached_leads_read(
    twins: ApiClient, postgres: EmbeddedPostgres
) -> None:
    lead = await twins.create()
    bodies = [lead_body() for _ in range(5)]
    async with down(postgres):
        accepted = await asyncio.gather(*(twins.post("/leads", json=body) for body in bodies))
        assert [answer.status for answer in accepted] == [202] * 5
        for key in (lead["id"], lead["externalId"]):
            answer = await soon(twins.get(f"/leads/{key}"))
            assert (answer.status, answer.json) == (200, lead)
        answers = await asyncio.gather(
            *(soon(twins.get(path)) for path in ("/leads", accepted[0].headers["Location"]))
        )
        assert [answer.status for answer in answers] == [503, 503]
        assert all(answer.headers["Retry-After"] for answer in answers)
    for body, answer in zip(bodies, accepted, strict=True):
        operation = await twins.outcome_of(answer)
        assert operation["status"] == "succeeded"
        assert (await twins.read(operation["leadId"])).items() >= body.items()


async def test_redis_down_is_answered_in_two_seconds(
    twins: ApiClient, valkey: EmbeddedValkey
) -> None:
    lead = await twins.create()
    async with down(valkey):
        await answers_without_redis(twins, lead["id"], lead["externalId"])
    await creates_again(twins)


async def test_redis_hanging_is_answered_in_two_seconds(
    twins: ApiClient, valkey: EmbeddedValkey
) -> None:
    lead = await twins.create()
    async with hanging(valkey):
        await answers_without_redis(twins, lead["id"], lead["externalId"])
    await creates_again(twins)


async def answers_without_redis(client: ApiClient, *keys: str) -> None:
    """Check that leads are read and listed from PostgreSQL, and that a create is refused."""
    reads = [soon(client.get(path)) for path in ("/leads", *(f"/leads/{key}" for key in keys))]
    create = soon(client.post("/leads", json=lead_body()))
    *read, refused = await asyncio.gather(*reads, create)
    assert [answer.status for answer in read] == [200] * len(reads)
    assert (refused.status, refused.code) == (503, "unavailable")
    assert refused.headers["Retry-After"]


async def test_a_syncer_that_stands_still_makes_creates_wait(
    stack: Stack, client: ApiClient
) -> None:
    body = lead_body()
    async with stack.paused("syncer"):
        accepted = await client.post("/leads", json=body)
        assert accepted.status == 202
        operation = await client.get(accepted.headers["Location"])
        assert operation.json == {"id": accepted.json["id"], "status": "pending"}
        assert (await client.get(f"/leads/{body['externalId']}")).status == 404
    operation_after = await client.outcome_of(accepted)
    assert operation_after["status"] == "succeeded"
    lead = await client.read(operation_after["leadId"])
    assert lead.items() >= body.items()
    assert await client.read(body["externalId"]) == lead


async def test_supabase_down_is_no_verdict_on_anyone(
    client: ApiClient, supabase: StandInControl
) -> None:
    known, fresh = client, client.with_token(await client.log_in())
    async with supabase.misbehaving(status=503):
        for action in ("login", "signup"):
            account = {"email": "eve@example.com", "password": "not her own one"}
            answer = await client.post(f"/authentication/{action}", json=account)
            assert (answer.status, answer.code) == (503, "auth-unavailable")
        # Tokens are verified here: those that were seen before, and those that were not.
        assert (await known.get("/leads")).status == 200
        assert (await fresh.get("/leads")).status == 200
        assert (await client.with_token("no.such.token").get("/leads")).status == 401
    assert await client.log_in()


async def test_a_hanging_supabase_is_a_503_by_the_deadline(stack: Stack, client: ApiClient) -> None:
    async with stack.paused("supabase_auth"):
        login = asyncio.create_task(
            client.post("/authentication/login", json={"email": "e@example.com", "password": "x"}),
            name="log-in",
        )
        # Meanwhile clients that are signed in are served.
        assert (await soon(client.get("/leads"))).status == 200
        answer = await login
        assert (answer.status, answer.code) == (503, "auth-unavailable")
