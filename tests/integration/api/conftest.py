"""The API in this process over real servers, and who may call it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.api.app import create_gateway
from services.api.bootstrap import bootstrap
from services.api.server import serving
from services.api.settings import ApiSettings, AuthSettings, HttpSettings
from shared.settings import (
    CacheSettings,
    ObservabilitySettings,
    PostgresSettings,
    StreamsSettings,
)
from tests.support.auth_server import AuthServer
from tests.support.responder import Responder
from tests.support.syncer import running_syncer

OpenApi = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


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
    return ApiSettings(
        http=HttpSettings(port=0, api_host="127.0.0.1"),
        auth=AuthSettings(supabase_uri=auth.url, supabase_key=SecretStr("sb_secret_tests")),
        postgres=postgres_settings,
        streams=streams_settings,
        cache=cache_settings,
        observability=ObservabilitySettings(),
    )


@asynccontextmanager
async def running_api(
    settings: ApiSettings, *, token: str | None = None, **http: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve, and yield a client that sends `token`; `http` changes the HTTP settings."""
    changed = settings.http.model_copy(update=http)
    settings = replace(settings, http=changed)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with bootstrap(settings) as context:
        gateway = create_gateway(context, settings)
        async with (
            serving(gateway, settings.http, hang_up=context.exchange.hang_up) as port,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=15
            ) as client,
        ):
            yield client


@pytest.fixture
async def open_api(api_settings: ApiSettings, auth: AuthServer) -> OpenApi:
    """Return what serves the API to a signed-in client, with HTTP settings of one's own."""

    def open_(**http: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return running_api(api_settings, token=auth.token(), **http)

    return open_


@pytest.fixture
async def api(open_api: OpenApi) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a signed-in client of an API that nobody answers: no syncer, no summarizer."""
    async with open_api(create_timeout=timedelta(milliseconds=200)) as client:
        yield client


@pytest.fixture
async def syncer(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> AsyncGenerator[None]:
    """Run the real syncer, without its schedule."""
    async with running_syncer(postgres_settings, streams_settings, cache_settings):
        yield


@pytest.fixture
async def client(open_api: OpenApi, syncer: None) -> AsyncGenerator[httpx.AsyncClient]:  # noqa: ARG001
    """Yield a signed-in client of an API whose creates are carried out."""
    async with open_api() as opened:
        yield opened


@pytest.fixture
async def summarizer(redis: Redis) -> AsyncGenerator[Responder]:
    """Yield a summarizer that answers what the test says."""
    async with Responder(redis, stream="stream:summaries").running() as responder:
        yield responder
