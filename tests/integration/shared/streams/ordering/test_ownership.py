"""Who owns which partition: fair shares, and nothing for who is dead or was taken for dead."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from shared.domain.errors import FencedError, UnavailableError
from shared.events.catalog import LEADS
from shared.events.partitions import Claim, Division, Layout, Member, Survey
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.codec import read_entries
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.overview import living_members
from shared.streams.ordering.ownership import LONGEST_TICK, Ownership
from shared.streams.ordering.processes import host_name
from tests.support.eventually import eventually
from tests.support.ordered_workers import OrderedWorkers
from tests.support.workers import Recorder

LAYOUT = Layout(LEADS, 1, 8)
SETTLED = timedelta(seconds=2)
LEASE = timedelta(milliseconds=300)
ENDLESS = timedelta(hours=1)


@pytest.fixture
async def store(database: Database) -> PartitionRepository:
    repository = PartitionRepository(database)
    await repository.divide(LEADS, partitions=LAYOUT.partitions, is_open=True)
    return repository


def member(
    redis: Redis, store: PartitionRepository, *, name: str = "one", lease: timedelta = ENDLESS
) -> Ownership:
    return Ownership(store, Divisions(redis, store), redis, stream=LEADS, name=name, lease=lease)


async def shares(store: PartitionRepository) -> list[int]:
    """Return how many partitions each owner has, the unowned left out."""
    partitions = (await store.survey(LEADS)).partitions
    return sorted(Counter(row.owner for row in partitions if row.owner is not None).values())


async def test_members_share_fairly_and_a_change_settles_soon(
    store: PartitionRepository, ordered_workers: OrderedWorkers
) -> None:
    async def settle(*expected: int) -> None:
        async def is_so() -> bool:
            return await shares(store) == list(expected)

        await eventually(is_so, within=SETTLED)

    async with ordered_workers.running(Recorder(), name="one"):
        await settle(8)
        async with ordered_workers.running(Recorder(), name="two"):
            await settle(4, 4)
            async with ordered_workers.running(Recorder(), name="three"):
                await settle(2, 3, 3)
            await settle(4, 4)
        await settle(8)
    assert await shares(store) == []
    assert (await store.survey(LEADS)).members == []


async def test_who_stops_beating_is_replaced_after_the_lease_and_can_write_no_more(
    redis: Redis, store: PartitionRepository, database: Database
) -> None:
    sleeper, heir = member(redis, store), member(redis, store, name="two", lease=LEASE)
    await sleeper.keep()
    [owned, *_] = sleeper.owned
    began = time.monotonic()

    async def has_inherited() -> bool:
        await heir.keep()
        return len(heir.owned) == LAYOUT.partitions

    await eventually(has_inherited)
    assert time.monotonic() - began >= LEASE.total_seconds()

    with pytest.raises(FencedError), store.fenced([(owned.claim, "5-0")]):
        async with database.transaction() as connection:
            await connection.execute("DELETE FROM leads.member")
    with pytest.raises(FencedError):
        await store.move([(owned.claim, "5-0")])
    survey = await store.survey(LEADS)
    assert [one.token for one in survey.members] == [heir.member.token]
    assert {row.position for row in survey.partitions} == {"0-0"}


async def test_by_what_it_had_before_nobody_writes_once_he_has_it_back(
    redis: Redis, store: PartitionRepository, database: Database
) -> None:
    sleeper, heir = member(redis, store), member(redis, store, name="two")
    await sleeper.keep()
    [before, *_] = sleeper.owned
    await store.bury((await store.survey(LEADS)).members[0])
    await heir.keep()
    await store.move([(owned.claim, "9-0") for owned in heir.owned])
    await heir.leave()
    await sleeper.keep()
    [after] = [one for one in sleeper.owned if one.name == before.name]
    assert after.claim.owner == before.claim.owner

    with pytest.raises(FencedError), store.fenced([(before.claim, "5-0")]):
        async with database.transaction() as connection:
            await connection.execute("DELETE FROM leads.member")
    with pytest.raises(FencedError):
        await store.move([(before.claim, "5-0")])
    with pytest.raises(FencedError):  # one of two is enough
        await store.move([(sleeper.owned[1].claim, "9-1"), (before.claim, "5-0")])
    await store.release(before.claim)
    survey = await store.survey(LEADS)
    assert {(row.owner, row.position) for row in survey.partitions} == {
        (sleeper.member.token, "9-0")
    }
    await store.move([(owned.claim, "10-0") for owned in sleeper.owned])


async def test_who_owns_another_epoch_than_it_knows_takes_the_partition_anew(
    redis: Redis, store: PartitionRepository, database: Database
) -> None:
    """As after a backup was restored: the row has the same owner, of earlier."""
    one = member(redis, store)
    await one.keep()
    async with database.connection() as connection:
        await connection.execute("UPDATE leads.partition SET epoch = epoch + 7 WHERE number = 3")
    await one.keep()
    assert len(one.owned) == LAYOUT.partitions - 1
    await one.keep()
    assert len(one.owned) == LAYOUT.partitions
    await store.move([(owned.claim, "5-0") for owned in one.owned])


async def test_while_it_beats_nobody_takes_anything(
    redis: Redis, store: PartitionRepository
) -> None:
    one, two = member(redis, store, lease=LEASE), member(redis, store, name="two", lease=LEASE)
    await one.keep()
    until = time.monotonic() + LEASE.total_seconds() * 2
    while time.monotonic() < until:
        await one.keep()
        await two.keep()
        await asyncio.sleep(LEASE.total_seconds() / 6)
    assert (len(one.owned), len(two.owned)) == (LAYOUT.partitions, 0)
    assert one.excess == LAYOUT.partitions / 2


PRINTS_ITS_NAME = """
from shared.streams.ordering.processes import process_name
print(process_name(), flush=True)
input()
"""


async def test_a_process_of_this_host_that_has_ended_is_replaced_at_once(
    redis: Redis, store: PartitionRepository
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PRINTS_ITS_NAME),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    name = (await process.stdout.readline()).decode().strip()
    dead = Member(uuid4(), "dead", host_name(), name)
    await store.survey(LEADS, beat=dead)
    await _claim_all(store, dead.token)
    heir = member(redis, store)
    await heir.keep()
    assert heir.owned == []  # it lives

    process.kill()
    await process.wait()
    await heir.keep()
    assert len(heir.owned) == LAYOUT.partitions
    assert [one.token for one in (await store.survey(LEADS)).members] == [heir.member.token]


async def test_a_process_of_another_host_is_given_its_lease(
    redis: Redis, store: PartitionRepository
) -> None:
    away = Member(uuid4(), "away", "another.host", "boot/numbers/1/1")
    await store.survey(LEADS, beat=away)
    await _claim_all(store, away.token)
    heir = member(redis, store)
    await heir.keep()
    assert heir.owned == []


async def test_a_member_that_was_wrongly_buried_joins_again(
    redis: Redis, store: PartitionRepository
) -> None:
    sleeper, heir = member(redis, store), member(redis, store, name="two")
    await sleeper.keep()
    await store.bury((await store.survey(LEADS)).members[0])
    await heir.keep()
    assert len(heir.owned) == LAYOUT.partitions

    await sleeper.keep()
    assert sleeper.owned == []
    await heir.keep()
    for owned in heir.owned[: heir.excess]:
        await heir.give_up(owned)
    await sleeper.keep()
    assert await shares(store) == [4, 4]
    assert len(sleeper.owned) == 4
    [owned, *_] = sleeper.owned
    await store.move([(owned.claim, "5-0")])  # it may write there


async def test_who_was_taken_for_dead_and_has_beaten_since_is_not_buried(
    redis: Redis, store: PartitionRepository
) -> None:
    one = member(redis, store)
    await one.keep()
    [seen] = (await store.survey(LEADS)).members
    await one.keep()
    await store.bury(seen)
    assert [member.token for member in (await store.survey(LEADS)).members] == [seen.token]


class Counts(PartitionRepository):
    """Counts how often it was asked who owns what."""

    surveys = 0

    async def survey(self, stream: str, *, beat: Member | None = None) -> Survey:
        self.surveys += 1
        return await super().survey(stream, beat=beat)


async def _listen(redis: Redis, one: Ownership) -> None:
    """Do what a reader does that waits for entries."""
    one.is_listening = True
    for stream, heard in one.bell.items():
        for entry in read_entries(await redis.xread({stream: heard})):
            one.hear(entry.id)


@pytest.mark.usefixtures("store")
async def test_who_has_all_looks_again_when_somebody_joins_or_the_stream_is_divided_anew(
    redis: Redis, database: Database
) -> None:
    counted = Counts(database)
    one, two = member(redis, counted), member(redis, PartitionRepository(database), name="two")

    async def looks() -> int:
        before = counted.surveys
        for _ in range(3):
            await _listen(redis, one)
            await one.keep_when_due()
        return counted.surveys - before

    assert await looks() == 1
    assert await looks() == 0
    await Divisions(redis, counted).publish(Division([LAYOUT], is_open=True))
    assert await looks() == 1
    assert await looks() == 0
    await two.keep()
    assert await looks() == 3
    assert one.excess == 4


async def test_who_would_not_hear_of_others_looks_for_them(
    redis: Redis, store: PartitionRepository, database: Database
) -> None:
    counted = Counts(database)
    busy, deaf = member(redis, counted), member(redis, counted, name="two")
    await busy.keep_when_due()
    await busy.keep_when_due()  # it waits for nothing
    assert counted.surveys == 2
    await busy.leave()

    deaf.is_listening = True
    await redis.config_set("maxmemory", 1)  # nothing can be added
    try:
        await deaf.keep_when_due()
        await deaf.keep_when_due()
    finally:
        await redis.config_set("maxmemory", 0)
    assert counted.surveys == 4
    assert await shares(store) == [LAYOUT.partitions]


async def test_who_joins_one_at_rest_gets_its_share_soon(
    store: PartitionRepository, ordered_workers: OrderedWorkers
) -> None:
    async def has_so_much(*expected: int) -> bool:
        return await shares(store) == list(expected)

    running = partial(ordered_workers.running, Recorder(), lease=timedelta(minutes=5))
    async with running(name="one"):
        await eventually(partial(has_so_much, 8))
        async with running(name="two"):
            # At its next tick one gives, at the next after that the other takes. It rests for five.
            ticks = 2 * LONGEST_TICK
            await eventually(partial(has_so_much, 4, 4), within=ticks + timedelta(seconds=1))


async def test_who_rests_is_seen_to_live(
    redis: Redis, store: PartitionRepository, ordered_workers: OrderedWorkers
) -> None:
    async with ordered_workers.running(Recorder(), lease=timedelta(minutes=5)):
        [one] = await eventually(partial(_members, store))

        async def has_beaten() -> bool:
            return (await _members(store))[0].beat > one.beat

        await eventually(has_beaten)  # and so will not by itself while it is watched
        assert await living_members(store, redis, LEADS) == {one.token}


async def _members(store: PartitionRepository) -> Sequence[Member]:
    return (await store.survey(LEADS)).members


class FailsOnce(PartitionRepository):
    """PostgreSQL is away for the first release."""

    has_failed = False

    async def release(self, claim: Claim) -> None:
        if not self.has_failed:
            self.has_failed = True
            raise UnavailableError("PostgreSQL is away")
        await super().release(claim)


@pytest.mark.usefixtures("store")
async def test_a_partition_whose_release_failed_is_not_left_without_a_reader(
    redis: Redis, database: Database
) -> None:
    one = member(redis, FailsOnce(database))
    await one.keep()
    with pytest.raises(UnavailableError):
        await one.give_up(one.owned[0])
    await one.keep()  # releases it
    await one.keep()  # claims it, as there is nobody else
    assert len(one.owned) == LAYOUT.partitions


class SlowFirst(PartitionRepository):
    """The first survey takes so long that it is old when it arrives."""

    is_first = True

    async def survey(self, stream: str, *, beat: Member | None = None) -> Survey:
        survey = await super().survey(stream, beat=beat)
        if self.is_first:
            self.is_first = False
            await asyncio.sleep(0.2)
        return survey


async def test_two_looks_at_once_forget_nothing(
    redis: Redis, store: PartitionRepository, database: Database
) -> None:
    one = member(redis, SlowFirst(database))
    await store.survey(LEADS, beat=one.member)
    await asyncio.gather(one.look(), one.look())
    assert len(one.owned) == LAYOUT.partitions


async def _claim_all(store: PartitionRepository, token: UUID) -> None:
    for row in (await store.survey(LEADS)).partitions:
        claim = Claim(LEADS, row.layout, row.number, token, row.epoch + 1)
        assert await store.claim(claim, row) == "0-0"
