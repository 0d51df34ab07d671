"""The whole system, and one user who is logged in."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import asyncpg
import httpx

from devstack.console import Console
from devstack.data_directory import scratch_directory
from devstack.environment import STACK_FILE, file_values, make_plan
from devstack.free_ports import LOOPBACK, free_port
from devstack.process import LineSink, ignore_line
from devstack.service import Service, ServiceSpec, module
from devstack.stack import READY_PATH, run_stack
from shared.background import background

START = timedelta(seconds=60)
POLL = timedelta(milliseconds=50)
# A millisecond apart, so that any order of them is a real one.
INSERT = """
    INSERT INTO leads.lead (
        id, external_id, first_name, last_name, email, email_key, phone, city, state, country,
        source, created_at, updated_at
    )
    SELECT gen_random_uuid(), gen_random_uuid(), 'Ada', 'Lovelace ' || number, email, email,
           '+44 20 7946 0018', 'London', 'England', 'United Kingdom', 'manual', time, time
    FROM generate_series($1::integer, $2::integer) AS number,
         LATERAL (SELECT 'ada.' || number || '@example.com' AS email,
                         now() - number * interval '1 millisecond' AS time) AS made
    RETURNING id
"""
# A request's number is in its address: `ada.{n}@example.com`.
COUNT = """
    SELECT count(*) FROM {table}
    WHERE substring(email FROM '^ada[.]([0-9]+)@')::bigint >= $1
"""
EMAIL, PASSWORD = "ada@example.com", "analytical engine"


class Quiet(Console):
    """Drops what the services log: they still pay for writing it."""

    def sink(self, name: str) -> LineSink:  # noqa: ARG002 (the base's)
        return ignore_line

    def say(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class System:
    """Where a running system is, and the headers of a user's and an operator's requests.

    It was ready `ready_after` so many seconds.
    """

    url: str
    dsn: str
    redis_url: str
    headers: Mapping[str, str]
    operator: Mapping[str, str]
    jwks_url: str
    ready_after: float


@contextlib.asynccontextmanager
async def running_system(**environment: str) -> AsyncGenerator[System]:
    """Run a system of its own for the length of the block, without limits."""
    with scratch_directory() as data:
        port = free_port()
        given = {"DATA_DIR": str(data), "PORT": str(port), "RATE_LIMIT": "off"} | environment
        plan = make_plan(given)
        begun = time.monotonic()
        async with background(run_stack(plan, Quiet()), name="stack"):
            url = f"http://{LOOPBACK}:{port}"
            await _until_ready(url)
            ready_after = time.monotonic() - begun
            settings = file_values(str(plan.data / STACK_FILE))
            yield System(
                url,
                settings["SUPABASE_CONNECTION_STRING"],
                settings["REDIS_URL"],
                {"Authorization": f"Bearer {await _log_in(url, EMAIL)}"},
                {"X-API-Key": settings["API_KEY"]},
                f"{settings['SUPABASE_URI']}/auth/v1/.well-known/jwks.json",
                ready_after,
            )


@contextlib.asynccontextmanager
async def running_limit(name: str, *arguments: str) -> AsyncGenerator[str]:
    """Run one of the servers of `bench.limits`; yields its URL."""
    port = free_port()
    program = (*module(f"bench.limits.{name}"), str(port), *arguments)
    service = Service(ServiceSpec(name, program, {}, port, "/"), on_line=ignore_line)
    await service.start()
    try:
        await service.ready()
        yield f"http://{LOOPBACK}:{port}"
    finally:
        await service.kill()


async def stored_leads(system: System, count: int, *, first: int = 1) -> list[str]:
    """Stores made-up leads without the API, numbered from `first`; returns their ids."""
    connection = await asyncpg.connect(system.dsn)
    try:
        rows = await connection.fetch(INSERT, first, first + count - 1)
        await connection.execute("VACUUM (ANALYZE) leads.lead")
    finally:
        await connection.close()
    return [str(row["id"]) for row in rows]


def stored_in(dsn: str, table: str) -> Callable[[int], Awaitable[int]]:
    """Return a function that counts a table's rows of requests from a number on."""

    async def rows(first: int) -> int:
        connection = await asyncpg.connect(dsn)
        try:
            return int(await connection.fetchval(COUNT.format(table=table), first))
        finally:
            await connection.close()

    return rows


async def _until_ready(url: str) -> None:
    async with asyncio.timeout(START.total_seconds()), httpx.AsyncClient(base_url=url) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(READY_PATH)).status_code == HTTPStatus.OK:
                    return
            await asyncio.sleep(POLL.total_seconds())


async def more_users(system: System, count: int) -> list[str]:
    """Sign so many users up; returns their tokens."""
    return [await _log_in(system.url, f"{number}.{EMAIL}") for number in range(count)]


async def _log_in(url: str, email: str) -> str:
    account = {"email": email, "password": PASSWORD}
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        signed_up = await http.post("/authentication/signup", json=account)
        # With data of an earlier run the account is there.
        if signed_up.status_code != HTTPStatus.CONFLICT:
            signed_up.raise_for_status()
        answer = (await http.post("/authentication/login", json=account)).raise_for_status()
    return str(answer.json()["access_token"])
