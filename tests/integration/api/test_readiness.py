"""Readiness tells what makes creates 202 or 503, and so does the log, once each way."""

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from structlog.testing import capture_logs
from yarl import URL

from ops.running import Servers
from services.api.handlers.health import WARNINGS
from services.api.settings import ApiSettings
from shared.domain.errors import UnavailableError
from shared.events.catalog import LEADS
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.lead_document import LeadRepository
from shared.storage.pool import Database, open_database
from shared.streams.troubles import Troubles
from tests.support import outage_states as states
from tests.support.api import OpenApi, RunSyncer, running_api
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.outage_log import outage_lines
from tests.support.outage_states import NARROW, State
from tests.support.tcp_proxy import TcpProxy

SOON = timedelta(milliseconds=100)


@pytest.fixture
def servers(redis: Redis, database: Database) -> Servers:
    return Servers(redis, database)


@pytest.fixture
async def narrow_settings(api_settings: ApiSettings) -> ApiSettings:
    streams = api_settings.streams.model_copy(update={"stream_max_bytes": NARROW})
    return replace(api_settings, streams=streams)


async def readiness(api: httpx.AsyncClient) -> tuple[int, dict[str, Any]]:
    response = await api.get("/health/ready")
    return response.status_code, response.json()


async def when_ready(api: httpx.AsyncClient) -> dict[str, Any]:
    """Return what a ready API tells; on a busy machine a check may have been late before."""

    async def ready() -> dict[str, Any] | None:
        status, body = await readiness(api)
        return body if status == 200 else None

    return await eventually(ready)


@pytest.mark.parametrize(
    "state",
    [
        states.replica,
        states.out_of_memory,
        states.too_few_replicas,
        states.failed_snapshot,
        states.forbidden_streams,
    ],
)
async def test_a_redis_that_refuses_writes_is_not_there(
    state: State, servers: Servers, api_settings: ApiSettings, auth: AuthServer
) -> None:
    async with running_api(api_settings, token=auth.token()) as api, state(servers):
        assert (await api.post("/leads", json=lead_body())).status_code == 503
        status, body = await readiness(api)
        assert (status, body["status"], body["checks"]["redis"]) == (
            503,
            "unavailable",
            "unavailable",
        )


@pytest.mark.parametrize(
    ("state", "warning"),
    [
        (states.full_partition, "full"),
        (states.full_stream, "full"),
        (states.full_summaries, "full"),
        (states.closed, "closed"),
    ],
)
async def test_what_refuses_writes_of_all_processes_is_a_warning(
    state: State,
    warning: str,
    servers: Servers,
    narrow_settings: ApiSettings,
    auth: AuthServer,
) -> None:
    async with state(servers), running_api(narrow_settings, token=auth.token()) as api:

        async def is_told() -> bool:
            status, body = await readiness(api)
            assert status == 200  # reads go on, and no other process could do better
            return (body["status"], body["warnings"]) == ("degraded", [WARNINGS[warning]])

        await eventually(is_told)
        if state is not states.full_summaries:
            assert (await api.post("/leads", json=lead_body())).status_code == 503
        assert (await api.get("/leads")).status_code == 200


async def test_a_redis_that_hangs_is_one_outage_and_no_warning(
    api_settings: ApiSettings, auth: AuthServer, redis_url: str, link: TcpProxy
) -> None:
    """Who does not know whether writes are refused for the partitions does not say so."""
    address = SecretStr(str(URL(redis_url).with_port(link.port)))
    streams = StreamsSettings(redis_url=address)
    async with running_api(replace(api_settings, streams=streams), token=auth.token()) as api:
        await when_ready(api)
        with capture_logs() as logs:
            link.swallow()
            await eventually(lambda: is_logged(logs, "began"))
            status, body = await readiness(api)
            assert (status, body["checks"]["redis"]) == (503, "unavailable")
            assert body["warnings"] == []
            link.heal()
            await eventually(lambda: has_ended(logs, "redis"))
    assert lines_besides_postgres(logs) == [("began", "redis"), ("ended", "redis")]


async def test_a_table_that_cannot_be_read_is_not_there(
    servers: Servers, api_settings: ApiSettings
) -> None:
    async with states.locked_whole(servers), running_api(api_settings) as api:
        status, body = await readiness(api)
        assert (status, body["checks"]["postgres"]) == (503, "unavailable")


async def test_a_pool_whose_connections_are_all_in_use_is_named(
    postgres_settings: PostgresSettings,
) -> None:
    settings = postgres_settings.model_copy(update={"postgres_pool_size": 1})
    async with open_database(settings) as database:
        leads = LeadRepository(database)
        async with database.connection():
            with pytest.raises(UnavailableError, match=r"all 1 connections .*POSTGRES_POOL_SIZE"):
                await leads.check_readable()

        async def is_readable() -> bool:
            with contextlib.suppress(UnavailableError):  # a busy machine's, once more
                await leads.check_readable()
                return True
            return False

        await eventually(is_readable)


async def is_logged(logs: list[Any], event: str, words: str = "") -> bool:
    said = [one for one in logs if one["event"].startswith("outage.")]
    return event in dict(outage_lines(logs)) and any(words in one.get("reason", "") for one in said)


def lines_besides_postgres(logs: list[Any]) -> list[tuple[str, str]]:
    """Return what is told of outages; PostgreSQL may be late by itself where a machine is busy."""
    return [one for one in outage_lines(logs) if one[1] != "postgres"]


async def has_ended(logs: list[Any], what: str) -> bool:
    return ("ended", what) in outage_lines(logs)


async def test_writes_that_come_late_are_a_warning_until_they_are_done(
    api: httpx.AsyncClient, run_syncer: RunSyncer
) -> None:
    assert (await when_ready(api))["warnings"] == []
    with capture_logs() as logs:
        assert (await api.post("/leads", json=lead_body())).status_code == 202
        await eventually(lambda: is_logged(logs, "began", "1 writes that were answered 202 wait"))
        assert (await when_ready(api))["warnings"] == [WARNINGS["late"]]
        async with run_syncer():
            await eventually(lambda: has_ended(logs, "late"))
            body = await when_ready(api)
    assert (body["status"], body["warnings"]) == ("ok", [])
    assert lines_besides_postgres(logs) == [("began", "late"), ("ended", "late")]


async def test_a_write_that_waits_alone_is_late_as_long_as_it_waits(
    client: httpx.AsyncClient, api: httpx.AsyncClient, database: Database
) -> None:
    """Others go on: its partition, or its key, is held up."""
    lead = (await client.post("/leads", json=lead_body())).json()
    locked = "SELECT 1 FROM leads.lead WHERE id = $1 FOR UPDATE"
    with capture_logs() as logs:
        async with database.transaction() as connection:
            await connection.execute(locked, lead["id"])
            answer = await api.patch(f"/leads/{lead['id']}", json={"city": "Rome"})
            assert answer.status_code == 202
            await eventually(lambda: is_logged(logs, "began", "1 writes"))
        await eventually(lambda: has_ended(logs, "late"))
    # The syncer, in this process too, may have something to say of PostgreSQL.
    lines = [one for one in outage_lines(logs) if one[1] == "late"]
    assert lines == [("began", "late"), ("ended", "late")]


async def test_an_answer_asked_for_at_once_is_not_late(api: httpx.AsyncClient) -> None:
    headers = {"Prefer": "respond-async"}
    assert (await api.post("/leads", json=lead_body(), headers=headers)).status_code == 202
    assert (await when_ready(api))["status"] == "ok"


async def test_what_consumers_wait_for_is_a_warning(redis: Redis, open_api: OpenApi) -> None:
    await Troubles(redis).tell("syncer:here:1", LEADS, ["PostgreSQL at db.internal is odd"])
    async with open_api() as api:
        body = await when_ready(api)
    assert body["warnings"] == [WARNINGS["consumers"]]
    assert "db.internal" not in str(body)


async def test_an_outage_is_logged_once_however_many_requests_meet_it(
    servers: Servers, open_api: OpenApi
) -> None:
    async with open_api() as api:
        await when_ready(api)
        with capture_logs() as logs:
            async with states.replica(servers):
                for _ in range(5):
                    assert (await api.post("/leads", json=lead_body())).status_code == 503
                await eventually(lambda: is_logged(logs, "began"))
                for _ in range(5):
                    await readiness(api)
            await eventually(lambda: has_ended(logs, "redis"))
    assert lines_besides_postgres(logs) == [("began", "redis"), ("ended", "redis")]
    requests = [one for line in logs if line["event"] == "request.ended" for one in line["each"]]
    assert {one["route"] for one in requests} == {"/leads"}  # and no probe
    assert all("read only" in one["reason"] for one in requests)
    # The client's errors quote the whole command, an event with a person's data.
    assert "example.com" not in str(logs)
