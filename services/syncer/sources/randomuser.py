"""Random User (https://randomuser.me/documentation, version 1.4) as a source of leads."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError
from yarl import URL

from services.syncer.sources import Fetched
from shared.domain.errors import TransientError
from shared.domain.lead import LeadSource
from shared.events.lead_fields import LeadFields
from shared.observability.metrics import HTTP_CLIENT_SECONDS

# One user is about 1.1 kB; the service sends 5,000 at most.
MAX_BYTES = 16 * 1024 * 1024
MAX_REDIRECTS = 2
TRY_TIMEOUT = timedelta(seconds=10)
HTTP_OK = 200
REDIRECTS = frozenset({301, 302, 307, 308})


class RandomUserSource:
    """Fetches made-up people. Whatever the service sends is checked like a client's input."""

    name = LeadSource.RANDOMUSER.value

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = URL(url)
        self._seconds = HTTP_CLIENT_SECONDS.labels(self._url.host or "")

    async def fetch(self, count: int) -> Fetched:
        """Return up to `count` leads; raises `TransientError`."""
        try:
            body = await self._get(self._url.update_query(results=count))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise TransientError(f"Random User did not answer: {reason}") from error
        return parse(body, most=count)

    async def _get(self, url: URL) -> bytes:
        timeout = aiohttp.ClientTimeout(total=TRY_TIMEOUT.total_seconds())
        for _ in range(MAX_REDIRECTS + 1):
            getting = self._session.get(url, allow_redirects=False, timeout=timeout)
            with self._seconds.time():
                response = await getting
            async with response:
                if response.status not in REDIRECTS:
                    return await _read(response)
                url = self._redirected(response)
        raise TransientError("Random User redirects in circles")

    def _redirected(self, response: aiohttp.ClientResponse) -> URL:
        # To another host would be to wherever the answer wants us to go.
        url = response.url.join(URL(response.headers.get("Location", "")))
        if url.host != self._url.host:
            raise TransientError(f"Random User redirects to another host, {url.host}")
        return url


def parse(body: bytes, *, most: int) -> Fetched:
    """Return the leads in a response, at most so many; raises `TransientError` for garbage."""
    try:
        document = _Response.model_validate_json(body)
    except ValidationError as error:
        raise TransientError("Random User sent something else than users") from error
    leads: list[LeadFields] = []
    problems: list[str] = []
    for position, row in enumerate(document.results[:most]):
        try:
            leads.append(_User.model_validate(row).to_lead())
        except ValidationError as error:
            problems.append(f"row {position}: {_explain(error)}")
    return Fetched(leads, problems)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Login(_Part):
    uuid: UUID


class _Name(_Part):
    first: str
    last: str


class _Birth(_Part):
    date: str | None = None


class _Location(_Part):
    city: str | None = None
    state: str | None = None
    country: str | None = None


class _Picture(_Part):
    large: str | None = None


class _User(_Part):
    login: _Login
    name: _Name
    email: str
    phone: str | None = None
    cell: str | None = None
    dob: _Birth = _Birth()
    location: _Location = _Location()
    picture: _Picture = _Picture()

    def to_lead(self) -> LeadFields:
        """Return the lead; raises `ValidationError` when a field is not fit for one."""
        return LeadFields(
            external_id=self.login.uuid,
            first_name=self.name.first,
            last_name=self.name.last,
            email=self.email,
            # The service leaves out what it does not know by sending nothing between the quotes.
            phone=self.phone or None,
            cell=self.cell or None,
            dob=self.dob.date or None,
            city=self.location.city or None,
            state=self.location.state or None,
            country=self.location.country or None,
            picture=self.picture.large or None,
        )


class _Response(_Part):
    # Rows are checked one by one, so that a bad one does not spoil the others.
    results: list[Any]


def _explain(error: ValidationError) -> str:
    # Field names and reasons only: the values are personal data.
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    if response.status != HTTP_OK:
        raise TransientError(f"Random User answered {response.status}")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise TransientError("Random User sent too much")
    return bytes(body)
