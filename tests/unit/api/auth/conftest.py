"""An auth server to verify tokens by, and the project that it belongs to."""

from collections.abc import AsyncGenerator
from functools import partial

import httpx
import pytest

from tests.support.auth_server import AuthServer
from tests.support.projects import OpenProject, open_project


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
async def http() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=1) as client:
        yield client


@pytest.fixture
def project(auth: AuthServer, http: httpx.AsyncClient) -> OpenProject:
    """Return what opens the project, with a `secret` or without."""
    return partial(open_project, auth, http)
