"""One system for the tests of this folder, its user, and the stand-ins' remote controls."""

import sys
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from playwright.async_api import Browser

from devstack.data_directory import scratch_directory
from shared.settings import PostgresSettings
from shared.storage.pool import Database, open_database
from tests.support.api_client import ACCOUNT, ApiClient, open_client
from tests.support.browser import open_browser
from tests.support.repository import ROOT
from tests.support.stack import Stack, running_stack
from tests.support.standin_control import StandInControl

SAMPLE_USERS = ROOT / "tests/support/samples/randomuser-20.json"

# Short waits: what a killed consumer held is soon taken over.
HASTE = {"STREAM_LEASE": "2", "STREAM_BLOCK": "0.25"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what looks for processes in /proc where there is none."""
    if sys.platform != "linux":
        for item in items:
            if "tests/e2e" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason="looks for processes in /proc"))


@pytest.fixture(scope="package")
async def stack() -> AsyncGenerator[Stack]:
    """Run a system whose source is the sample users, and whose model the Groq stand-in."""
    with scratch_directory() as directory:
        settings = {
            "GROQ": "stand-in",
            "SYNC_CRON": "*/3 * * * * *",
            "SYNC_RESULTS": "20",
            "STANDIN_USERS_FILE": str(SAMPLE_USERS),
        }
        async with running_stack(directory / "data", **settings, **HASTE) as running:
            yield running


@pytest.fixture(scope="package")
async def client(stack: Stack) -> AsyncGenerator[ApiClient]:
    async with open_client(stack.url) as opened:
        yield opened


@pytest.fixture(scope="package")
async def browser() -> AsyncGenerator[Browser]:
    async with open_browser() as opened:
        yield opened


@pytest.fixture
async def session(client: ApiClient) -> dict[str, Any]:
    """Return a new session of the user, as the console keeps it."""
    tokens = (await client.post("/authentication/login", json=ACCOUNT)).json
    made = time.time() * 1000
    return {
        "access": tokens["access_token"],
        "refresh": tokens["refresh_token"],
        "expires": made + tokens["expires_in"] * 1000,
        "made": made,
        "email": ACCOUNT["email"],
    }


@pytest.fixture
async def stack_database(stack: Stack) -> AsyncGenerator[Database]:
    """Open the system's own PostgreSQL, for what the API does not show."""
    dsn = stack.environment["SUPABASE_CONNECTION_STRING"]
    settings = PostgresSettings.model_validate({"supabase_connection_string": dsn})
    async with open_database(settings) as opened:
        yield opened


@pytest.fixture(scope="package")
def groq(stack: Stack) -> StandInControl:
    return StandInControl(stack.environment["GROQ_BASE_URL"])


@pytest.fixture(scope="package")
def supabase(stack: Stack) -> StandInControl:
    return StandInControl(stack.environment["SUPABASE_URI"])
