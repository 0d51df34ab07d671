"""The API in this process, and what its tests are handed."""

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
from pydantic import SecretStr

from services.api.app import create_gateway
from services.api.bootstrap import Api, bootstrap
from services.api.server.server import serving
from services.api.settings import ApiSettings, AuthSettings, HttpSettings, LimitSettings
from shared.settings import CacheSettings, ObservabilitySettings, PostgresSettings, StreamsSettings
from tests.support.auth_server import AuthServer
from tests.support.contract import check_response

ORIGIN = "https://app.example.com"

# Frozen, and so made once: to look for each in the environment takes a while.
_HTTP = HttpSettings(port=0, api_host="127.0.0.1")
_LIMITS = LimitSettings()
_OBSERVABILITY = ObservabilitySettings()


@functools.cache
def _auth_settings(url: str) -> AuthSettings:
    return AuthSettings(supabase_uri=url, supabase_key=SecretStr("sb_secret_tests"))


OpenApi = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
RunSyncer = Callable[[], AbstractAsyncContextManager[None]]
Alter = Callable[[Api], Api]


def unaltered(api: Api) -> Api:
    """Return the API as it is."""
    return api


def api_settings_of(
    auth: AuthServer,
    postgres: PostgresSettings,
    streams: StreamsSettings,
    cache: CacheSettings,
    *,
    limits: LimitSettings | None = None,
) -> ApiSettings:
    """Return settings of an API on these servers, at any port."""
    return ApiSettings(
        http=_HTTP,
        auth=_auth_settings(auth.url),
        limits=limits or _LIMITS,
        postgres=postgres,
        streams=streams,
        cache=cache,
        observability=_OBSERVABILITY,
    )


@asynccontextmanager
async def running_api(
    settings: ApiSettings, *, token: str | None = None, alter: Alter = unaltered, **http: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve, and yield a client that sends `token`; `http` changes the HTTP settings.

    `alter` puts other handlers in the place of the API's.

    The client holds every answer against the OpenAPI document.
    """
    settings = replace(settings, http=settings.http.model_copy(update=http))
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with bootstrap(settings) as opened:
        running = alter(opened)
        gateway = create_gateway(running, settings)
        async with (
            serving(
                gateway,
                settings.http,
                stop_waiting=running.exchange.stop_waiting,
                announce_end=running.health.announce_end,
                grace=timedelta(0),
            ) as port,
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                headers=headers,
                timeout=15,
                event_hooks={"response": [check_response]},
            ) as client,
        ):
            yield client
