"""`/health/serving` is red when another process may do better, and for nothing else."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from devstack.free_ports import free_port
from ops.running import Servers
from services.api.settings import ApiSettings
from shared.settings import PostgresSettings
from shared.storage.pool import Database
from tests.support import outage_states as states
from tests.support.api import running_api
from tests.support.api_process import running_process
from tests.support.auth_server import SECRET, AuthServer
from tests.support.eventually import eventually

PATH = "/health/serving"
Outage = Callable[[Servers, ApiSettings], AbstractAsyncContextManager[ApiSettings]]


async def serving(client: httpx.AsyncClient) -> tuple[int, str]:
    response = await client.get(PATH)
    return response.status_code, response.json()["status"]


@asynccontextmanager
async def read_only_redis(servers: Servers, settings: ApiSettings) -> AsyncGenerator[ApiSettings]:
    async with states.replica(servers):
        yield settings


@asynccontextmanager
async def locked_table(servers: Servers, settings: ApiSettings) -> AsyncGenerator[ApiSettings]:
    async with states.locked_whole(servers):
        yield settings


@asynccontextmanager
async def no_postgres(_servers: Servers, settings: ApiSettings) -> AsyncGenerator[ApiSettings]:
    nowhere = SecretStr(f"postgresql://leads:x@127.0.0.1:{free_port()}/leads")
    postgres = PostgresSettings(supabase_connection_string=nowhere)
    yield replace(settings, postgres=postgres)


@pytest.mark.parametrize("outage", [read_only_redis, locked_table, no_postgres])
async def test_what_all_processes_lack_takes_none_of_them_out(
    outage: Outage, redis: Redis, database: Database, api_settings: ApiSettings
) -> None:
    servers = Servers(redis, database)
    async with outage(servers, api_settings) as settings, running_api(settings) as api:
        assert (await api.get("/health/ready")).status_code == 503
        assert await serving(api) == (200, "ok")


async def test_a_process_without_signing_keys_takes_no_requests(
    api_settings: ApiSettings, auth: AuthServer
) -> None:
    auth.is_down = True
    async with running_api(api_settings) as api:
        assert await serving(api) == (503, "unavailable")
        auth.is_down = False

        async def serves() -> bool:
            return await serving(api) == (200, "ok")

        await eventually(serves)
        auth.is_down = True
        assert await serving(api) == (200, "ok")  # it has the keys


async def test_a_shared_secret_needs_no_keys(api_settings: ApiSettings, auth: AuthServer) -> None:
    auth.is_down = True
    project = api_settings.auth.model_copy(update={"supabase_jwt_secret": SecretStr(SECRET)})
    async with running_api(replace(api_settings, auth=project)) as api:
        assert await serving(api) == (200, "ok")


async def test_a_process_that_stops_goes_on_until_balancers_have_let_go(
    api_settings: ApiSettings, auth: AuthServer
) -> None:
    authorization = {"Authorization": f"Bearer {auth.token()}"}
    async with running_process(api_settings, SHUTDOWN_DELAY="5") as api:

        async def ask(path: str) -> httpx.Response:
            # Each time on a new connection, as those come that were balanced elsewhere before.
            async with httpx.AsyncClient(base_url=api.url, headers=authorization) as client:
                return await client.get(path)

        async def serves() -> bool:
            return (await ask(PATH)).status_code == 200

        await eventually(serves)  # as soon as it has the keys
        api.terminate()

        async def is_announced() -> bool:
            answer = await ask(PATH)
            return (answer.status_code, answer.json()["status"]) == (503, "stopping")

        await eventually(is_announced)
        assert (await ask("/leads")).status_code == 200
        assert await api.process.wait() == 0
