"""I6: the cache never moves to an older version of a lead."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from shared.cache.lead_cache import PREFIX, CachedLead, Document, LeadCache, open_cache
from shared.events.envelope import new_id
from shared.settings import CacheSettings
from tests.faults.conftest import Figure
from tests.faults.scale import scaled

ROUNDS = scaled(1_000, 10_000)
EXAMPLES = scaled(15, 300)
AT_ONCE = 50
VERSIONS = 4
READERS = 2

Result = TypeVar("Result")
OpensCache = Callable[[LeadCache], LeadCache]


@dataclass(frozen=True, slots=True)
class Version:
    """A lead in one version."""

    id: UUID
    version: int
    external_id: UUID | None = None

    @property
    def read_at(self) -> float:
        return time.monotonic()

    @property
    def partition_key(self) -> UUID:
        return self.external_id or self.id

    @property
    def json(self) -> bytes:
        return b'{"externalId":"%s","version":%d}' % (
            str(self.external_id).encode(),
            self.version,
        )


class WritesAnything(LeadCache):
    """Writes without a look at what is there."""

    def __init__(self, inner: LeadCache) -> None:
        super().__init__(inner._client, inner._reader, _SETTINGS)

    async def put(self, documents: Sequence[Document]) -> None:
        for document in documents:
            value = b"%d:%b" % (document.version, document.json)
            await self._client.set(f"{PREFIX}lead:{document.id}", value, ex=60)


class Deletes(LeadCache):
    """Guards its writes by the version, and tells of a change by deleting the old one."""

    def __init__(self, inner: LeadCache) -> None:
        super().__init__(inner._client, inner._reader, _SETTINGS)

    async def put(self, documents: Sequence[Document]) -> None:
        for document in documents:
            await self._client.delete(f"{PREFIX}lead:{document.id}")

    async def fill(self, document: Document) -> None:
        await LeadCache.put(self, [document])


# Patient: in these rounds many wait for few connections.
_SETTINGS = CacheSettings(cache_timeout=timedelta(seconds=10))


class Lead:
    """A lead whose versions are committed, cached, read and filled in all at once."""

    def __init__(self, cache: LeadCache, chance: random.Random) -> None:
        self._cache = cache
        self._chance = chance
        self._id = new_id()
        # What PostgreSQL holds, and what any reader may have seen there a while ago.
        self._committed = 1
        self._newest_seen = 0
        self.went_back = 0

    async def live(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write(), name="writer")
            for number in range(READERS):
                tasks.create_task(self._read(), name=f"reader {number}")
        cached = await self._cache.get(self._id)
        if cached is not None and cached.version < VERSIONS:
            self.went_back += 1

    async def _write(self) -> None:
        for version in range(2, VERSIONS + 1):
            self._committed = version
            await self._dawdle()
            await self._cache.put([Version(self._id, version)])

    async def _read(self) -> None:
        for _ in range(VERSIONS):
            in_postgres = Version(self._id, self._committed)
            await self._dawdle()
            before = self._newest_seen
            cached: CachedLead | None = await self._cache.get(self._id)
            if cached is None:
                await self._dawdle()
                await self._cache.fill(in_postgres)
                continue
            self.went_back += cached.version < before
            self._newest_seen = max(self._newest_seen, cached.version)

    async def _dawdle(self) -> None:
        for _ in range(self._chance.randrange(4)):
            await asyncio.sleep(0)


async def check_rounds(cache: LeadCache, chance: random.Random, rounds: int) -> None:
    """Fail if a reader sees an older version after a newer one, or one stays in the end."""
    went_back = 0
    for _ in range(rounds // AT_ONCE):
        leads = [Lead(cache, chance) for _ in range(AT_ONCE)]
        async with asyncio.TaskGroup() as tasks:
            for number, lead in enumerate(leads):
                tasks.create_task(lead.live(), name=f"lead {number}")
        went_back += sum(lead.went_back > 0 for lead in leads)
    assert went_back == 0, f"{went_back} of {rounds} leads went back in the cache"


async def test_adversarial_rounds(redis_url: str, chance: random.Random, figure: Figure) -> None:
    async with open_cache(_SETTINGS, default_url=redis_url) as cache:
        await check_rounds(cache, chance, ROUNDS)
    figure(f"{ROUNDS:,} adversarial rounds: 0 went back")


@pytest.mark.parametrize("defect", [WritesAnything, Deletes])
async def test_control_other_ways_to_write_go_back(
    defect: OpensCache, redis_url: str, chance: random.Random, figure: Figure
) -> None:
    async with open_cache(_SETTINGS, default_url=redis_url) as cache:
        with pytest.raises(AssertionError, match="went back in the cache") as failed:
            await check_rounds(defect(cache), chance, 200)
    way = "no version guard" if defect is WritesAnything else "guard and delete"
    figure(f"{way}: {str(failed.value).splitlines()[0]}")


class CacheMachine(RuleBasedStateMachine):
    """A lead's versions in any order: committed, written late, filled in by slow readers, deleted.

    Each step opens the cache anew, as another process would.
    """

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._id, self._external_id = new_id(), new_id()
        self._committed = 1
        self._newest_cached = 0
        self._deleted_in = 0

    @rule()
    def commit(self) -> None:
        self._committed += 1

    @rule(age=st.integers(0, 3))
    def put(self, age: int) -> None:
        self._write(max(1, self._committed - age), lambda cache, one: cache.put([one]))

    @rule(age=st.integers(0, 3))
    def fill(self, age: int) -> None:
        self._write(max(1, self._committed - age), lambda cache, one: cache.fill(one))

    @rule()
    def mark_deleted(self) -> None:
        self._committed += 1
        self._deleted_in = self._committed
        asyncio.run(
            self._with_cache(
                lambda cache: cache.mark_deleted(
                    self._id, self._external_id, version=self._deleted_in
                )
            )
        )

    @invariant()
    def never_goes_back(self) -> None:
        cached = asyncio.run(self._with_cache(lambda cache: cache.get(self._id)))
        pointed = asyncio.run(
            self._with_cache(lambda cache: cache.get_by_external_id(self._external_id))
        )
        if max(self._newest_cached, self._deleted_in) in {0, self._deleted_in}:
            assert (cached, pointed) == (None, None)
        else:
            assert cached is not None
            assert cached.version == self._newest_cached
            assert pointed is None or pointed == cached

    def _write(self, version: int, write: Callable[[LeadCache, Document], Awaitable[None]]) -> None:
        document = Version(self._id, version, self._external_id)
        asyncio.run(self._with_cache(lambda cache: write(cache, document)))
        self._newest_cached = max(self._newest_cached, version)

    async def _with_cache(self, use: Callable[[LeadCache], Awaitable[Result]]) -> Result:
        async with open_cache(_SETTINGS, default_url=self.url) as cache:
            return await use(cache)


def test_any_order_of_writes_and_deletions(redis_url: str, figure: Figure) -> None:
    form = settings(
        max_examples=EXAMPLES,
        stateful_step_count=15,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    CacheMachine.url = redis_url
    run_state_machine_as_test(CacheMachine, settings=form)
    figure(f"{EXAMPLES} orders of writes, fills and deletions: 0 went back")
