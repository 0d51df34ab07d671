"""A signed-in client of the API, for tests that drive it from outside."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import aiohttp
import orjson
from multidict import CIMultiDictProxy
from yarl import URL

from tests.support.builders import lead_body
from tests.support.eventually import eventually

ACCOUNT = {"email": "user@example.com", "password": "correct horse battery"}
PATIENCE = timedelta(seconds=40)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that has been read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        return str(self.json["code"])


class ApiClient:
    """Sends requests as one user."""

    def __init__(self, session: aiohttp.ClientSession, *, token: str | None = None) -> None:
        self._session = session
        self.token = token

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Send one request and read the whole answer; the path is sent as it is."""
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        headers |= options.pop("headers", {})
        url = URL(path, encoded=True)
        async with self._session.request(method, url, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        return await self.ask("POST", path, **options)

    def with_token(self, token: str | None) -> Self:
        """Return a client of another user, on the same connections."""
        return type(self)(self._session, token=token)

    async def log_in(self) -> str:
        """Return the access token of a new session."""
        answer = await self.post("/authentication/login", json=ACCOUNT)
        assert answer.status == 200, answer.body
        return str(answer.json["access_token"])

    async def create(self, **changes: Any) -> dict[str, Any]:
        """Create a lead and return it."""
        answer = await self.post("/leads", json=lead_body(**changes))
        assert answer.status == 201, answer.body
        lead: dict[str, Any] = answer.json
        return lead

    async def read(self, key: str) -> dict[str, Any]:
        """Return the lead with this id or externalId."""
        answer = await self.get(f"/leads/{key}")
        assert answer.status == 200, answer.body
        lead: dict[str, Any] = answer.json
        return lead

    async def list_all(self) -> list[dict[str, Any]]:
        """Return every lead, page by page."""
        leads: list[dict[str, Any]] = []
        path: str | None = "/leads?limit=500"
        while path is not None:
            answer = await self.get(path)
            assert answer.status == 200, answer.body
            leads += answer.json
            link = answer.headers.get("Link")
            path = None if link is None else link.removeprefix("<").partition(">")[0]
        return leads

    async def outcome_of(self, accepted: Answer) -> dict[str, Any]:
        """Wait for the end of what was answered 202, and return the operation."""
        assert accepted.status == 202, accepted.body

        async def ended() -> dict[str, Any] | None:
            answer = await self.get(accepted.headers["Location"])
            assert answer.status == 200, answer.body
            operation: dict[str, Any] = answer.json
            return None if operation["status"] == "pending" else operation

        return await eventually(ended, within=PATIENCE)


@asynccontextmanager
async def open_client(url: str) -> AsyncGenerator[ApiClient]:
    """Open a client of the API at this address whose user has just signed up and logged in."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE.total_seconds())
    # As many connections as requests: none waits here for another's answer.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session:
        client = ApiClient(session)
        answer = await client.post("/authentication/signup", json=ACCOUNT)
        assert answer.status == 201, answer.body
        client.token = await client.log_in()
        yield client
