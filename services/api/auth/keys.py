"""The project's public signing keys, fetched ahead of need and kept through outages."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from services.api.auth.tokens import VerificationKey
from shared.background import Backoff
from shared.domain.errors import UnavailableError

log = structlog.get_logger(__name__)

REFRESH = timedelta(minutes=10)
STALE = timedelta(hours=24)
# However many tokens name unknown keys, the auth server is asked no more often than this.
REFETCH_PAUSE = timedelta(seconds=1)


class SigningKeys:
    """The key set at the auth server's `/.well-known/jwks.json`. `run` keeps it current."""

    def __init__(
        self, client: httpx.AsyncClient, *, auth_url: str, key: str, on_change: Callable[[], None]
    ) -> None:
        self._client = client
        # Some gateways let nothing through without a key.
        self._headers = {"apikey": key}
        self._url = f"{auth_url}/.well-known/jwks.json"
        self._on_change = on_change
        self._keys: Mapping[str, VerificationKey] = {}
        self._document: Any = None
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()
        self._is_answered = False

    def check_age(self) -> None:
        """Raise `UnavailableError` unless the keys are known and no older than a day."""
        age = None if self._fetched_at is None else time.monotonic() - self._fetched_at
        if age is None:
            raise UnavailableError("The signing keys have not been fetched yet")
        if age > STALE.total_seconds():
            raise UnavailableError("The signing keys could not be fetched for a day")

    async def find_key(self, kid: str | None) -> VerificationKey | None:
        """Return the key with this id, asking again for one that is new. None is for certain.

        A key may have been published a moment ago: only an answer that was asked for since the
        call began shows that there is none.
        """
        if kid is None:
            return None
        if kid not in self._keys:
            await self._ask_for(kid)
        self.check_age()
        return self._keys.get(kid)

    async def run(self) -> None:
        """Fetch the keys now and every ten minutes, forever; sooner after a failure."""
        while True:
            async for _ in Backoff(
                first=timedelta(milliseconds=500), longest=timedelta(seconds=15)
            ):
                try:
                    await self.fetch()
                    break
                except UnavailableError as error:
                    log.warning("signing_keys.unavailable", error=str(error))
            await asyncio.sleep(REFRESH.total_seconds())

    async def fetch(self) -> None:
        """Fetch the keys."""
        async with self._asking:
            await self._fetch()

    async def _ask_for(self, kid: str) -> None:
        begun = time.monotonic()
        # One after the other: those that waited find what the first one fetched.
        async with self._asking:
            if kid in self._keys:
                return
            asked_at = -math.inf if self._asked_at is None else self._asked_at
            pause = asked_at + REFETCH_PAUSE.total_seconds() - time.monotonic()
            if (asked_at >= begun or pause > 0) and not self._is_answered:
                raise UnavailableError("The auth server did not give its signing keys just now")
            if asked_at >= begun:
                return
            await asyncio.sleep(max(0.0, pause))
            await self._fetch()

    async def _fetch(self) -> None:
        self._asked_at, self._is_answered = time.monotonic(), False
        try:
            response = await self._client.get(self._url, headers=self._headers)
            # Auth servers from before signing keys existed have no such page.
            if response.status_code == HTTPStatus.NOT_FOUND:
                document: Any = {"keys": []}
            else:
                document = response.raise_for_status().json()
            keys = _usable_keys(document)
        except (httpx.HTTPError, ValueError, TypeError, KeyError) as error:
            raise UnavailableError(f"No signing keys: {type(error).__name__}") from error
        self._fetched_at, self._is_answered = time.monotonic(), True
        if document != self._document:
            self._keys, self._document = keys, document
            log.info("signing_keys.changed", kids=sorted(keys))
            self._on_change()


def _usable_keys(document: Any) -> dict[str, VerificationKey]:
    keys: dict[str, VerificationKey] = {}
    for entry in document["keys"]:
        try:
            key = import_key(entry)
        except JoseError as error:
            log.warning("signing_keys.unusable", error=str(error))
            continue
        # Never a shared secret: every reader of this page could sign with it.
        if isinstance(key, ECKey | RSAKey | OKPKey) and isinstance(entry.get("kid"), str):
            keys[entry["kid"]] = key
    return keys
