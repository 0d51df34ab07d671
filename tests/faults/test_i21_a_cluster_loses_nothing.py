"""I21: on a Redis Cluster order is kept and nothing lost, whatever happens to masters and slots."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.events import catalog
from shared.events.envelope import Event
from shared.events.partitions import Layout
from shared.redis_connections import translated_errors
from shared.settings import PostgresSettings
from shared.streams.codec import encode
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import Publisher, open_publisher
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.histories import CHANGES, check_order, happen, history
from tests.faults.scale import FULL, scaled
from tests.faults.streams import leads_drained
from tests.faults.syncer_pool import PARTITIONS, SyncerPool, open_syncer_pool
from tests.support.builders import lead_created
from tests.support.clusters import Cluster
from tests.support.eventually import eventually

LEADS, SYNCERS = scaled(40, 1_400), 3
ROUNDS, MOVES = scaled(1, 10), scaled(2, 6)
SPAN = timedelta(seconds=scaled(3, 100))
PATIENCE = timedelta(seconds=90)
# While a slot moves, some of its keys are here and some there.
MOVING = timedelta(milliseconds=200)
FEW = 5


@dataclass(frozen=True, slots=True)
class Stage:
    """A cluster and syncers, for faults to befall."""

    cluster: Cluster
    redis: Redis
    tables: Tables
    pool: SyncerPool
    chance: random.Random

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncGenerator[Publisher]:
        async with open_publisher(self.redis, Divisions(self.redis)) as publisher:
            yield publisher

    async def any_partition(self) -> str:
        """Return the stream of a partition that has entries."""

        async def filled() -> list[str]:
            with contextlib.suppress(UnavailableError), translated_errors():
                division = await Divisions(self.redis).refresh(catalog.LEADS)
                return [name for name in division.last.names if await self.redis.exists(name)]
            return []

        return self.chance.choice(await eventually(filled, within=PATIENCE))

    async def drained(self) -> None:
        """Wait until all is done, also while no master has a slot."""

        async def all_done() -> bool:
            with contextlib.suppress(UnavailableError), translated_errors():
                await leads_drained(self.redis, self.tables, within=PATIENCE)
                return True
            return False

        await eventually(all_done, within=PATIENCE)


async def befall(stage: Stage) -> None:
    """Move slots of partitions with what is in them, and kill masters, again and again."""
    for _ in range(ROUNDS):
        for _ in range(MOVES):
            await stage.cluster.move_slot(await stage.any_partition(), pause=MOVING)
        await stage.cluster.kill(await stage.cluster.master_of(await stage.any_partition()))
        if FULL:
            await eventually(stage.cluster.has_all_masters, within=PATIENCE)
            await stage.cluster.heal()


@pytest.fixture
async def stage(
    cluster: Cluster,
    cluster_client: Redis,
    postgres_settings: PostgresSettings,
    chance: random.Random,
) -> AsyncGenerator[Stage]:
    async with open_syncer_pool(postgres_settings, cluster.settings) as pool:
        yield Stage(cluster, cluster_client, Tables(postgres_settings.dsn), pool, chance)


async def test_changes_keep_their_order_and_none_is_lost(stage: Stage, figure: Figure) -> None:
    histories = [history(stage.chance) for _ in range(LEADS)]
    await stage.pool.start(number=SYNCERS)
    await stage.pool.settled()
    async with stage.publishing() as publisher, asyncio.TaskGroup() as tasks:
        tasks.create_task(befall(stage), name="fault")
        await happen(histories, publisher.publish, stage.chance, span=SPAN)
    await stage.drained()
    await check_order(stage.tables, histories)
    figure(
        f"{LEADS} leads x {CHANGES} changes, {ROUNDS} masters killed, {ROUNDS * MOVES} slots "
        "moved: 0 inversions, 0 lost"
    )


Publish = Callable[[Event], Awaitable[object]]
FIRST = Layout(catalog.LEADS, 1, PARTITIONS)


def some_events() -> Sequence[Event]:
    """Return events that go to one partition."""
    events: list[Event] = []
    while len(events) < FEW:
        event = lead_created()
        events += [event] if FIRST.partition_of(event.key) == 0 else []
    return events


async def accepted(events: Sequence[Event], publish: Publish) -> list[Event]:
    """Publish events at the same time; returns those that were accepted."""
    replies = await asyncio.gather(*map(publish, events), return_exceptions=True)
    unexpected = [one for one in replies if isinstance(one, BaseException)]
    assert all(isinstance(error, UnavailableError) for error in unexpected), unexpected
    ended = zip(events, replies, strict=True)
    return [event for event, reply in ended if not isinstance(reply, BaseException)]


async def lose_a_master_that_is_cut_off(stage: Stage, publish: Publish) -> str:
    """Publish all the while a replica sleeps, hears nothing, and then takes its master's place.

    Fails when something is lost that was accepted; returns the figure.
    """
    name = FIRST.name(0)
    master, replica = await stage.cluster.master_of(name), await stage.cluster.replica_of(name)
    kept = await accepted(some_events(), publish)
    assert len(kept) == FEW, "a whole cluster refused events"
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        await master.ask("CLIENT", "KILL", "TYPE", "replica")
        kept += await accepted(some_events(), publish)
        await stage.cluster.kill(master)
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    await eventually(stage.cluster.has_all_masters, within=PATIENCE)
    kept += await accepted(some_events(), publish)
    await stage.pool.start()
    await stage.drained()
    applied = {id_ for (id_,) in await stage.tables.rows("SELECT id FROM leads.event")}
    lost = sum(event.id not in applied for event in kept)
    assert not lost, f"{lost} of {len(kept)} accepted events lost"
    return f"{len(kept)} of {3 * FEW} events accepted, 0 lost"


@pytest.mark.long
async def test_what_was_accepted_outlives_a_master_that_is_cut_off(
    stage: Stage, figure: Figure
) -> None:
    async with stage.publishing() as publisher:
        found = await lose_a_master_that_is_cut_off(stage, publisher.publish)
    figure(f"a master cut off and killed: {found}")


async def test_control_without_a_replicas_word_it_is_lost(stage: Stage, figure: Figure) -> None:
    async def publish(event: Event) -> None:
        with translated_errors():
            await stage.redis.xadd(FIRST.name_for(event.key), encode(event))

    with pytest.raises(AssertionError, match="accepted events lost") as failed:
        await lose_a_master_that_is_cut_off(stage, publish)
    figure(f"not waiting for a replica: {str(failed.value).splitlines()[0]}")
