"""The API in this process, and what its tests are handed."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx

from services.api.app import create_gateway
from services.api.bootstrap import bootstrap
from services.api.server.server import serving
from services.api.settings import ApiSettings
from tests.support.contract import check_response

ORIGIN = "https://app.example.com"

OpenApi = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
RunSyncer = Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def running_api(
    settings: ApiSettings, *, token: str | None = None, **http: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve, and yield a client that sends `token`; `http` changes the HTTP settings.

    The client holds every answer against the OpenAPI document.
    """
    settings = replace(settings, http=settings.http.model_copy(update=http))
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with bootstrap(settings) as running:
        gateway = create_gateway(running, settings)
        async with (
            serving(
                gateway,
                settings.http,
                stop_waiting=running.exchange.stop_waiting,
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
