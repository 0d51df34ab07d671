"""A stream gets another number of partitions while it is written to: nothing is lost, in order."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.events.catalog import LEADS
from shared.events.envelope import Event
from shared.events.partitions import Claim, HeldEntry, Layout, Member
from shared.storage.admin_log import AdminLog
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.ordering.layout import ClosedError, Divisions
from shared.streams.publisher import Publisher, add_events, open_publisher
from tests.conftest import LEADS_DIVISION
from tests.integration.ops.conftest import Apply, Ops, StartSyncer, rows
from tests.support.builders import lead_created, lead_fields, lead_updated
from tests.support.eventually import eventually

WRITERS = 20
THREE = LEADS_DIVISION.last
FIVE = Layout(LEADS, 2, 5)


@pytest.fixture(autouse=True)
async def store(database: Database, redis: Redis) -> PartitionRepository:
    store = PartitionRepository(database)
    division = await store.divide(LEADS, partitions=THREE.partitions, is_open=True)
    await Divisions(redis).publish(division)
    return store


class Load:
    """Writers that change a lead each, one change strictly after another."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._end = asyncio.Event()
        self.refused = 0
        # The ids of each lead's events, in the order in which they were accepted.
        self.accepted: dict[UUID, list[UUID]] = defaultdict(list)

    @property
    def number(self) -> int:
        return sum(map(len, self.accepted.values()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with (
            open_publisher(self._redis, Divisions(self._redis)) as publisher,
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(WRITERS):
                tasks.create_task(self._write(publisher), name=f"writer {number}")
            try:
                yield
            finally:
                self._end.set()

    async def _write(self, publisher: Publisher) -> None:
        event: Event = lead_created(lead_fields(external_id=None))
        lead_id = UUID(event.subject)
        while not self._end.is_set():
            await self._publish(publisher, event)
            self.accepted[lead_id].append(event.id)
            event = lead_updated(lead_id, city=f"city {len(self.accepted[lead_id])}")
            await asyncio.sleep(0.01)

    async def _publish(self, publisher: Publisher, event: Event) -> None:
        """Publish one event until it is accepted: a client whose request is answered 503."""
        while True:
            try:
                await publisher.publish(event)
            except UnavailableError:
                self.refused += 1
                await asyncio.sleep(0.02)
            else:
                return


async def applied(database: Database) -> dict[UUID, list[UUID]]:
    """Return the ids of each lead's events, in the order in which they took effect."""
    found: dict[UUID, list[UUID]] = defaultdict(list)
    query = "SELECT subject, id FROM leads.event ORDER BY position"
    for subject, event_id in await rows(database, query):
        found[UUID(str(subject))].append(UUID(str(event_id)))
    return found


@pytest.mark.long
async def test_nothing_is_lost_or_overtaken_under_load(
    ops: Ops, redis: Redis, database: Database, store: PartitionRepository, syncer: StartSyncer
) -> None:
    load = Load(redis)
    async with syncer(), syncer():
        await eventually(lambda: has_joined(store))
        async with load.running():
            await eventually(lambda: has_written(load, 200))
            ended = await ops("streams", "partition", "--to", "5", "--json")
            done = load.number
            await eventually(lambda: has_written(load, done + 200))

        async def all_applied() -> bool:
            return sum(map(len, (await applied(database)).values())) == load.number

        await eventually(all_applied)
    assert (ended.code, ended.json) == (0, {"partitions": 5}), ended.stderr
    assert await applied(database) == load.accepted
    cities = await rows(database, "SELECT id, city FROM leads.lead")
    assert {UUID(str(id_)): city for id_, city in cities} == {
        lead_id: f"city {len(events) - 1}" for lead_id, events in load.accepted.items()
    }
    assert load.refused > 0
    assert all([await redis.exists(name) for name in (*THREE.names, *FIVE.names)])
    [action] = await AdminLog(database).latest(limit=9)
    assert (action.action, action.affected) == ("streams.partition", 5)
    assert action.detail == {"stream": LEADS, "from": 3, "to": 5}


async def has_written(load: Load, number: int) -> bool:
    return load.number >= number


async def test_what_is_held_is_waited_for(
    ops: Ops, store: PartitionRepository, syncer: StartSyncer, redis: Redis
) -> None:
    owner = Member(uuid4(), "syncer:there:1", "there", "1")
    await store.survey(LEADS, beat=owner)
    [row, *_] = (await store.survey(LEADS)).partitions
    claim = Claim(LEADS, 1, 0, owner.token, row.epoch + 1)
    await store.claim(claim, row)
    entry = HeldEntry(entry_id="7-1", key="a", attempt=2, wait=timedelta(hours=1), fields={})
    with store.fenced([(claim, "7-1")]):
        await store.hold(claim, [entry])
    await store.release(claim)
    await store.leave(owner)
    async with syncer():
        await eventually(lambda: has_joined(store))
        command = await ops.start("streams", "partition", "--to", "5")
        await eventually(lambda: is_closed(redis))
        begun = await beats(store)

        async def has_looked_again() -> bool:
            return await beats(store) >= begun + 3

        await eventually(has_looked_again)
        assert await is_closed(redis)
        [group] = (await ops("streams", LEADS, "--json")).json[0]["groups"]
        assert group["retries"] == 1
        await store.let_go(claim, ["7-1"])
        code, output, _ = await command.end()
    assert (code, output) == (0, "stream:leads has 5 partitions.\n")


async def has_joined(store: PartitionRepository) -> bool:
    """Return whether a syncer is there: without one the change does not begin."""
    return bool((await store.survey(LEADS)).members)


async def beats(store: PartitionRepository) -> int:
    """Return how often syncers have looked whether the change is done."""
    return sum(member.beat for member in (await store.survey(LEADS)).members)


async def is_closed(redis: Redis) -> bool:
    try:
        await Divisions(redis).layout(LEADS)
    except ClosedError:
        return True
    return False


async def test_without_a_syncer_it_does_not_begin(
    ops: Ops, store: PartitionRepository, redis: Redis
) -> None:
    ended = await ops("streams", "partition", "--to", "5")
    assert ended.code == 1
    assert "--force" in ended.stderr
    division = await store.division(LEADS)
    assert division is not None
    assert (division.is_open, len(division.layouts)) == (True, 1)
    await add_events(redis, [lead_created()])


async def test_it_goes_on_when_nobody_looks_on(
    ops: Ops, database: Database, syncer: StartSyncer, redis: Redis, create: Apply
) -> None:
    command = await ops.start("streams", "partition", "--to", "5", "--force")
    await eventually(lambda: is_closed(redis))
    await eventually(lambda: command.has_said("divided into 5"))
    ended = await ops.interrupt(command)
    assert ended.code == 130
    assert "goes on by itself" in ended.stderr
    other = await ops.start("streams", "partition", "--to", "4")
    # Until it has seen the change that is under way: after that it would begin one of its own.
    await eventually(lambda: other.has_said("divided into 5"))
    async with syncer():
        code, _, errors = await other.end()
        await create(20)
        again = await ops("streams", "partition", "--to", "5")
    assert code == 1
    assert "run this again for 4" in errors
    assert (again.code, again.stdout) == (0, "stream:leads has 5 partitions.\n")
    # Only the first one began anything, and did not see its end.
    [action] = await AdminLog(database).latest(limit=9)
    assert (action.detail["to"], action.affected) == (5, None)


async def test_the_same_number_changes_nothing(
    ops: Ops, database: Database, store: PartitionRepository
) -> None:
    ended = await ops("streams", "partition", "--to", "3")
    assert (ended.code, ended.stdout) == (0, "stream:leads has 3 partitions.\n")
    assert await AdminLog(database).latest(limit=9) == []
    division = await store.division(LEADS)
    assert division is not None
    assert division.layouts == [THREE]
