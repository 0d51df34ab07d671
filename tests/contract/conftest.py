"""The whole system, running, for tests of the contract from outside."""

from collections.abc import AsyncGenerator

import httpx
import pytest

from devstack.data_directory import scratch_directory
from services.api.handlers.accounts import EXAMPLE_CREDENTIALS
from tests.support.contract import check_response
from tests.support.stack import Stack, running_stack

# No leads but those of the tests, and no limit to how fast they come.
SETTINGS = {"SYNC_ENABLED": "false", "RATE_LIMIT": "off"}


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


@pytest.fixture
async def token(http: httpx.AsyncClient) -> str:
    """Return the access token of a session of one's own, of the document's example account."""
    signed_up = await http.post("/authentication/signup", json=EXAMPLE_CREDENTIALS)
    assert signed_up.status_code in {201, 409}
    logged_in = await http.post("/authentication/login", json=EXAMPLE_CREDENTIALS)
    assert logged_in.status_code == 200
    return str(logged_in.json()["access_token"])
