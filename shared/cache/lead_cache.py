"""Leads as JSON bytes in Redis, by id; an externalId is a pointer to the id, never a copy."""

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Protocol
from uuid import UUID

import structlog
from redis.asyncio import Redis

from shared.batcher import open_batcher
from shared.cache.key_reader import READS, Request, Values, open_reader, translated_errors
from shared.domain.errors import UnavailableError
from shared.domain.values import value
from shared.events.lead_fields import DOCUMENT_NAMES
from shared.lua import Keys, lua_script
from shared.redis_connections import (
    SENTINEL_SCHEME,
    check_server,
    client_of,
    is_cluster,
    milliseconds,
)
from shared.settings import CacheSettings, SettingsError

log = structlog.get_logger(__name__)

# Processes that know other fields of a lead do not see each other's entries. The number is this
# format's: raise it when that changes, or what a field holds.
_FIELDS = hashlib.sha256(",".join(DOCUMENT_NAMES).encode()).hexdigest()[:8]
PREFIX = f"leads:cache:2:{_FIELDS}:"

# Reads share one round trip at a time; these are for the writes beside them.
MAX_CONNECTIONS = 8

# Where a UUID's canonical form has its version.
_VERSION_DIGIT = 14

# How long reads go straight to PostgreSQL after the cache has failed.
PAUSE_SECONDS = 1.0

# Longer than any read of PostgreSQL may take, so that no fill from before a deletion
# outlives the tombstone that refuses it.
TOMBSTONE = timedelta(minutes=1)

# A process may sleep between reading a lead and writing it here, but no longer than this.
READ_LATELY = timedelta(seconds=30)

# Leads per script: Redis serves no other client while one runs.
MOST_PER_PUT = 50

_UNAVAILABLE = READS.labels("unavailable")


class Document(Protocol):
    """What the cache needs to know of a lead.

    A protocol, since `shared.cache` may not import `shared.storage`, whose `LeadDocument` it is.
    """

    @property
    def id(self) -> UUID: ...
    @property
    def external_id(self) -> UUID | None: ...
    @property
    def version(self) -> int: ...
    @property
    def partition_key(self) -> UUID: ...
    @property
    def json(self) -> bytes: ...
    @property
    def read_at(self) -> float: ...


@value()
class CachedLead:
    """A lead's JSON in the version it was written in.

    `moved_key` is its partition key where that does not follow from its JSON: where it is neither
    the externalId nor, without one, the id.
    """

    version: int
    json: bytes
    moved_key: str | None = None


@contextlib.asynccontextmanager
async def open_cache(settings: CacheSettings, *, default_url: str) -> AsyncGenerator["LeadCache"]:
    """Open the cache at `CACHE_REDIS_URL`, or at `default_url` when that is unset."""
    configured = settings.cache_redis_url
    url = default_url if configured is None else configured.get_secret_value()
    if url.startswith(SENTINEL_SCHEME):
        # Nothing is lost with a cache, so it needs no fail-over and speaks to one server.
        raise SettingsError("CACHE_REDIS_URL: must be set when the streams are behind Sentinel")
    timeout = settings.cache_timeout
    async with (
        client_of(url, connect=timeout, answer=timeout, most=MAX_CONNECTIONS) as client,
        _open_reader(client, url, settings) as reader,
    ):
        if configured is not None:
            await check_server(client, setting="CACHE_REDIS_URL")
        yield LeadCache(client, reader, settings)


class Reads(Protocol):
    """Takes keys to be read, and gives their values to await; they raise `UnavailableError`."""

    def submit(self, keys: Request, /) -> "asyncio.Future[Values]": ...


def _open_reader(
    client: Redis, url: str, settings: CacheSettings
) -> contextlib.AbstractAsyncContextManager[Reads]:
    timeout = settings.cache_timeout
    if not is_cluster(client):
        return open_reader(url, within=timeout)
    return open_batcher(partial(_read_by_slot, client, within=timeout), name="cache reads")


class LeadCache:
    """Reads never fail: without Redis they find nothing. Writes say when they failed."""

    def __init__(self, client: Redis, reader: Reads, settings: CacheSettings) -> None:
        self._client = client
        self._reader = reader
        self._ttl = settings.cache_ttl
        self._paused_until = 0.0

    async def find(self, key: str) -> CachedLead | None:
        """Return the cached lead whose id this is, or else whose externalId.

        `key` is a UUID in its canonical form, which it is looked up by as it is.
        """
        # Ids of our own making are UUIDv7: the other place is worth a look after a miss only.
        if key[_VERSION_DIGIT] == "7":
            (value,) = await self._read(_lead_key(key))
            if value is not None:
                return _cached(value)
            (pointer,) = await self._read(_pointer_key(key))
        else:
            value, pointer = await self._read(_lead_key(key), _pointer_key(key))
        if value is not None or pointer is None:
            return _cached(value)
        return await self._pointed_to(pointer, external_id=key)

    async def get(self, lead_id: UUID) -> CachedLead | None:
        """Return the cached lead with this id."""
        (value,) = await self._read(_lead_key(str(lead_id)))
        return _cached(value)

    async def get_by_external_id(self, external_id: UUID) -> CachedLead | None:
        """Return the cached lead with this externalId."""
        key = str(external_id)
        (pointer,) = await self._read(_pointer_key(key))
        return None if pointer is None else await self._pointed_to(pointer, external_id=key)

    async def put(self, documents: Sequence[Document]) -> None:
        """Write leads unless a newer version is there.

        What was read long ago is passed over: since then the lead may have been deleted, and its
        tombstone be gone.
        """
        oldest = time.monotonic() - READ_LATELY.total_seconds()
        fresh = [document for document in documents if document.read_at > oldest]
        if len(fresh) < len(documents):
            log.warning("cache.too_late", leads=len(documents) - len(fresh))
        with translated_errors():
            for start in range(0, len(fresh), MOST_PER_PUT):
                await self._put_some(fresh[start : start + MOST_PER_PUT])

    async def fill(self, document: Document) -> None:
        """Write what a reader found in PostgreSQL; without Redis, quietly do nothing."""
        if self._paused():
            return
        with contextlib.suppress(UnavailableError):
            await self.put([document])

    async def mark_deleted(self, lead_id: UUID, external_id: UUID | None, *, version: int) -> None:
        """Leave a tombstone: the lead is deleted in `version`."""
        key = _lead_key(str(lead_id))
        with translated_errors():
            await put_leads(
                self._client,
                keys=[key, key],
                values=[version, b"%d:" % version, milliseconds(TOMBSTONE), b""],
            )
            if external_id is not None:
                await self._client.delete(_pointer_key(str(external_id)))

    async def _put_some(self, documents: Sequence[Document]) -> None:
        keys: list[bytes] = []
        values: list[int | bytes | str] = []
        for lead in documents:
            key = _lead_key(str(lead.id))
            pointer = None if lead.external_id is None else _pointer_key(str(lead.external_id))
            lifetime = milliseconds(self._ttl * random.uniform(0.9, 1.1))  # noqa: S311 (jitter)
            keys += (key, pointer or key)
            values += (lead.version, _value(lead), lifetime, str(lead.id) if pointer else b"")
        if is_cluster(self._client):
            await _put_by_slot(self._client, keys, values)
        else:
            await put_leads(self._client, keys=keys, values=values)

    async def _pointed_to(self, pointer: bytes, *, external_id: str) -> CachedLead | None:
        cached = await self.get(UUID(pointer.decode()))
        # A pointer may outlive what it pointed to; the lead itself knows better.
        if cached is None or f'"externalId":"{external_id}"'.encode() not in cached.json:
            return None
        return cached

    async def _read(self, *keys: bytes) -> Values:
        if not self._paused():
            try:
                return await self._reader.submit(keys)
            except UnavailableError as error:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
                log.warning("cache.unavailable", error=str(error))
        _UNAVAILABLE.inc(len(keys))
        return (None,) * len(keys)

    def _paused(self) -> bool:
        return time.monotonic() < self._paused_until


# A version guard with a versioned write: a guard with DEL would let a slow reader fill in
# what it read before the change.
@lua_script("""
for i = 1, #keys, 2 do
  local a = i * 2 - 1
  local version, value, lifetime, id = values[a], values[a + 1], values[a + 2], values[a + 3]
  local current = redis.call('GET', keys[i])
  local known = current and tonumber(string.match(current, '^%d+'))
  if not known or known < tonumber(version) then
    redis.call('SET', keys[i], value, 'PX', lifetime)
  end
  if id ~= '' then redis.call('SET', keys[i + 1], id, 'PX', lifetime) end
end
""")
def put_leads(*, keys: Keys, values: Sequence[int | bytes | str]) -> None:
    """Write leads that are newer than what is there, and the pointers to them.

    A lead has two keys, its own and its pointer's, and four values: its version, what to keep
    (see `_value`), its lifetime in milliseconds, and its id to put into the pointer, or nothing.
    """
    raise NotImplementedError


async def _put_by_slot(
    client: Redis, keys: Sequence[bytes], values: Sequence[int | bytes | str]
) -> None:
    """Do what `put_leads` does where each key has a slot of its own."""
    async with client.pipeline(transaction=False) as pipeline:
        for place in range(0, len(keys), 2):
            key, pointer = keys[place : place + 2]
            version, value, lifetime, id_ = values[place * 2 : place * 2 + 4]
            put_leads.queue(pipeline, keys=[key, key], values=[version, value, lifetime, b""])
            if id_:
                pipeline.set(pointer, id_, px=int(lifetime))
        await pipeline.execute()


async def _read_by_slot(
    client: Redis, requests: Sequence[Request], *, within: timedelta
) -> list[Values]:
    """Do what `KeyReader` does where each key has a slot of its own."""
    with translated_errors():
        async with (
            asyncio.timeout(within.total_seconds()),
            client.pipeline(transaction=False) as pipeline,
        ):
            for request in requests:
                for key in request:
                    pipeline.get(key)
            values = iter(await pipeline.execute())
    return [tuple(islice(values, len(request))) for request in requests]


def _value(lead: Document) -> bytes:
    """Return `version:json`, or `version,partition key:json` where the key does not follow."""
    if lead.partition_key == (lead.external_id or lead.id):
        return b"%d:%b" % (lead.version, lead.json)
    return b"%d,%b:%b" % (lead.version, str(lead.partition_key).encode(), lead.json)


def _cached(value: bytes | None) -> CachedLead | None:
    if value is None:
        return None
    head, _, json = value.partition(b":")
    if not json:
        return None  # a tombstone
    if head.isdigit():
        return CachedLead(int(head), json)
    version, _, key = head.partition(b",")
    return CachedLead(int(version), json, key.decode())


def _lead_key(lead_id: str) -> bytes:
    return f"{PREFIX}lead:{lead_id}".encode()


def _pointer_key(external_id: str) -> bytes:
    return f"{PREFIX}external:{external_id}".encode()
