"""Parameters of addresses, and fields of bodies, that a route does not know."""

import re
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from services.api.handlers import ENDPOINTS
from services.api.settings import ApiSettings
from services.api.web.endpoint import Endpoint
from services.api.web.query import NO_PARAMETERS
from shared.storage.pool import Database
from tests.support.api import OpenApi, running_api
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.lead_table import insert_lead

KEY = "correct-horse-battery-staple"
LENIENT = {
    "/health",
    "/health/ready",
    "/health/serving",
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


class TestIgnoring:
    """`UNKNOWN_FIELDS=ignore`, as the first version of this API did."""

    @pytest.fixture
    async def lenient(self, open_api: OpenApi) -> AsyncGenerator[httpx.AsyncClient]:
        moment = timedelta(seconds=0.1)
        async with open_api(
            unknown_fields="ignore",
            api_key=SecretStr(KEY),
            create_timeout=moment,
            batch_timeout=moment,
        ) as client:
            yield client

    async def test_parameters_are_passed_over(
        self, database: Database, lenient: httpx.AsyncClient
    ) -> None:
        lead_id = str(await insert_lead(database))
        for address in (
            "/leads?_=1732440612",
            "/leads?page=2&limit=1",
            "/leads/export?cache-buster=x&format=csv",
            f"/leads/{lead_id}?expand=summary",
            f"/leads/{lead_id}/history?utm_source=mail",
            "/authentication/me?_=1",
        ):
            response = await lenient.get(address)
            assert response.status_code == 200, (address, response.text)

    async def test_fields_are_passed_over(
        self, database: Database, lenient: httpx.AsyncClient
    ) -> None:
        lead_id = await insert_lead(database)
        extra = {"id": 7, "score": {"a": [1]}, "first_name": "Bob"}
        body = lead_body() | extra
        del body["externalId"]
        statuses = [
            (await lenient.post("/leads", json=body)).status_code,
            (await lenient.post("/lead", json=lead_body() | extra)).status_code,
            (await lenient.patch(f"/leads/{lead_id}", json={"city": "Rome"} | extra)).status_code,
            (await lenient.put(f"/leads/by-external-id/{uuid4()}", json=body)).status_code,
        ]
        assert statuses == [202] * 4
        batch = {"leads": [lead_body() | extra, lead_body(email="nobody")], "dryRun": True}
        rows = (await lenient.post("/leads/batch", json=batch)).json()["results"]
        assert [row["status"] for row in rows] == [202, 400]
        assert list(rows[1]["error"]["errors"]) == ["email"]
        account = {"email": "ada@example.com", "password": "analytical engine", "name": "Ada"}
        # This project makes no accounts: it was asked, and that is all.
        refused = await lenient.post("/authentication/signup", json=account)
        assert refused.json()["code"] == "auth-unavailable"

    async def test_what_is_known_is_checked_all_the_same(self, lenient: httpx.AsyncClient) -> None:
        for path in ("/leads?limit=0&_=1", "/leads?limit=1&limit=2", "/leads?status=x"):
            assert (await lenient.get(path)).status_code == 400
        assert (await lenient.post("/leads", json={"name": "Ada"})).status_code == 400

    async def test_operators_are_still_told(self, lenient: httpx.AsyncClient) -> None:
        headers = {"X-API-Key": KEY}
        answers = [
            await lenient.get("/admin/dead-letters?_=1", headers=headers),
            await lenient.post("/admin/replays", json={"dryrun": True}, headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [400, 400]
