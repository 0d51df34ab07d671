"""The API in this process over real servers, and who may call it."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from devstack.free_ports import free_port
from devstack.servers.valkey import EmbeddedValkey
from services.api.settings import ApiSettings, AuthSettings, HttpSettings, LimitSettings
from shared.settings import CacheSettings, ObservabilitySettings, PostgresSettings, StreamsSettings
from tests.support.api import ORIGIN, OpenApi, RunSyncer, api_settings_of, running_api
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.responder import Responder
from tests.support.silent_server import SilentServer
from tests.support.syncer import running_syncer

Lead = dict[str, Any]

# For what is to be carried out, however busy the machine is: the answers' own time is tested apart.
PATIENCE = timedelta(seconds=12)


@pytest.fixture(scope="session")
async def auth_server() -> AsyncGenerator[AuthServer]:
    async with AuthServer() as server:
        yield server


@pytest.fixture
def auth(auth_server: AuthServer) -> AuthServer:
    """Return an auth server that is well and signs with ES256."""
    auth_server.reset()
    return auth_server


@pytest.fixture
def api_settings(
    auth: AuthServer,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> ApiSettings:
    return api_settings_of(auth, postgres_settings, streams_settings, cache_settings)


@pytest.fixture
async def open_api(api_settings: ApiSettings, auth: AuthServer) -> OpenApi:
    """Return what serves the API to a signed-in client, with HTTP settings of one's own."""

    def open_(**http: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return running_api(api_settings, token=auth.token(), **http)

    return open_


@pytest.fixture
async def api(open_api: OpenApi) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a signed-in client of an API without consumers: no syncer, no summarizer."""
    async with open_api(create_timeout=timedelta(milliseconds=200)) as client:
        yield client


# Not longer: it says in the log and in Redis what it lacks, which would puzzle other tests.
@pytest.fixture(scope="module")
async def aloof_client(
    auth_server: AuthServer, valkey: EmbeddedValkey
) -> AsyncGenerator[httpx.AsyncClient]:
    nowhere = SecretStr(f"postgresql://postgres:x@127.0.0.1:{free_port()}/leads")
    settings = ApiSettings(
        http=HttpSettings(port=0, api_host="127.0.0.1"),
        auth=AuthSettings(supabase_uri=auth_server.url, supabase_key=SecretStr("sb_secret_tests")),
        limits=LimitSettings(rate_limit=None),
        postgres=PostgresSettings(supabase_connection_string=nowhere),
        streams=StreamsSettings(redis_url=SecretStr(valkey.url)),
        cache=CacheSettings(),
        observability=ObservabilitySettings(),
    )
    token = auth_server.token()
    async with running_api(
        settings, token=token, cors_accepted_origins=frozenset({ORIGIN})
    ) as client:
        yield client


@pytest.fixture
def aloof_api(aloof_client: httpx.AsyncClient, auth: AuthServer) -> httpx.AsyncClient:  # noqa: ARG001
    """Return a signed-in client of an API without PostgreSQL, for what never gets that far.

    One for all such tests. It lets pages of `ORIGIN` read its answers.
    """
    return aloof_client


@pytest.fixture
def run_syncer(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> RunSyncer:
    """Return what runs the real syncer, without its schedule."""
    return partial(running_syncer, postgres_settings, streams_settings, cache_settings)


@pytest.fixture
async def syncer(run_syncer: RunSyncer) -> AsyncGenerator[None]:
    async with run_syncer():
        yield


@pytest.fixture
async def client(open_api: OpenApi, syncer: None) -> AsyncGenerator[httpx.AsyncClient]:  # noqa: ARG001
    """Yield a signed-in client of an API whose creates are carried out."""
    async with open_api(create_timeout=PATIENCE) as opened:
        yield opened


@pytest.fixture
async def summarizer(redis: Redis) -> AsyncGenerator[Responder]:
    """Yield a summarizer that answers what the test says."""
    async with Responder(redis, stream="stream:summaries").running() as responder:
        yield responder


@pytest.fixture
async def silent_server() -> AsyncGenerator[SilentServer]:
    async with SilentServer() as server:
        yield server


@pytest.fixture
async def lead(client: httpx.AsyncClient) -> Lead:
    return await create(client)


async def create(client: httpx.AsyncClient, **changes: object) -> Lead:
    response = await client.post("/leads", json=lead_body(**changes))
    assert response.status_code == 201, response.text
    lead: Lead = response.json()
    return lead
