"""Parameters of addresses: on every route, those that it does not know."""

import re
from collections.abc import AsyncGenerator
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from services.api.handlers import ENDPOINTS
from services.api.settings import ApiSettings
from services.api.web.endpoint import Endpoint
from services.api.web.query import NO_PARAMETERS
from tests.support.api import running_api
from tests.support.auth_server import AuthServer

KEY = "correct-horse-battery-staple"
LENIENT = {
    "/health",
    "/health/ready",
    "/openapi.json",
    "/asyncapi.json",
    "/docs",
    "/docs/{name}",
}


@pytest.fixture
async def anyone(api_settings: ApiSettings, auth: AuthServer) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client that every route is open to."""
    async with running_api(api_settings, token=auth.token(), api_key=SecretStr(KEY)) as client:
        client.headers["X-API-Key"] = KEY
        yield client


def address_of(endpoint: Endpoint) -> str:
    return re.sub(r"{\w+}", str(uuid4()), endpoint.path)


async def test_every_route_names_those_it_does_not_know(anyone: httpx.AsyncClient) -> None:
    strict = [endpoint for endpoint in ENDPOINTS if endpoint.path not in LENIENT]
    for endpoint in strict:
        response = await anyone.request(endpoint.method, f"{address_of(endpoint)}?x=1&y=")
        assert response.status_code == 400, endpoint.path
        assert response.json()["code"] == "validation-failed"
        assert response.json()["errors"] == {
            "x": "Is not a parameter of this address",
            "y": "Is not a parameter of this address",
        }


async def test_every_route_wants_its_own_once(anyone: httpx.AsyncClient) -> None:
    for endpoint in ENDPOINTS:
        parameters = endpoint.known_parameters or NO_PARAMETERS
        for name in parameters.names - parameters.repeatable:
            address = f"{address_of(endpoint)}?{name}=1&{name}=1"
            response = await anyone.request(endpoint.method, address)
            assert response.status_code == 400, (endpoint.path, name)
            assert response.json()["errors"] == {name: "May be given once"}


async def test_health_and_documents_take_any(anyone: httpx.AsyncClient) -> None:
    for path in sorted(LENIENT - {"/docs/{name}"} | {"/docs/swagger-ui.css"}):
        response = await anyone.get(f"{path}?cache-buster=1732440612")
        assert response.status_code == 200, path


async def test_a_caller_is_checked_before_the_parameters(anyone: httpx.AsyncClient) -> None:
    response = await anyone.get(f"/leads/{uuid4()}?x=1", headers={"Authorization": ""})
    assert response.status_code == 401
