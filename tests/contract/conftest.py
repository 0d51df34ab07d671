"""The whole system, running, for tests of the contract from outside."""

from collections.abc import AsyncGenerator

import httpx
import pytest

from devstack.scratch import scratch_directory
from tests.support.contract import check_response
from tests.support.stack import Stack, running_stack

# No leads but those of the tests, and no limit to how fast they come.
SETTINGS = {"SYNC_ENABLED": "false", "RATE_LIMIT": "off"}
ACCOUNT = {"email": "contract@example.com", "password": "correct horse battery"}


@pytest.fixture(scope="session")
async def stack() -> AsyncGenerator[Stack]:
    with scratch_directory() as data:
        async with running_stack(data, **SETTINGS) as stack:
            yield stack


@pytest.fixture(scope="session")
async def http(stack: Stack) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client that holds every answer against the OpenAPI document."""
    async with httpx.AsyncClient(
        base_url=stack.url, timeout=30, event_hooks={"response": [check_response]}
    ) as client:
        yield client


@pytest.fixture(scope="session")
async def token(http: httpx.AsyncClient) -> str:
    """Return the access token of an account."""
    assert (await http.post("/authentication/signup", json=ACCOUNT)).status_code == 201
    answer = await http.post("/authentication/login", json=ACCOUNT)
    assert answer.status_code == 200
    return str(answer.json()["access_token"])
