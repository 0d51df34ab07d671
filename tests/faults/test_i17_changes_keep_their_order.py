"""I17: each lead's events take effect in the order in which they were accepted."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis.asyncio import Redis

from devstack.servers.valkey import EmbeddedValkey
from shared.background import background
from shared.events import catalog
from shared.events.envelope import Event
from shared.streams.codec import encode
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import open_publisher
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.histories import CHANGES, History, check_order, happen, history
from tests.faults.misfits import ASLEEP, FALTERING, SLEEPY
from tests.faults.scale import FULL, SEED, scaled
from tests.faults.streams import drained, leads_drained
from tests.faults.syncer_pool import LEASE, SyncerPool
from tests.support.eventually import eventually

LEADS, FEW = scaled(60, 700), scaled(2, 20)
FEWER = 60
SPAN = timedelta(seconds=scaled(15, 80) / 10)
LOCKED = SPAN / 2
PATIENCE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Stage:
    """Servers and syncers, for faults to befall."""

    redis: Redis
    valkey: EmbeddedValkey
    tables: Tables
    dsn: str
    pool: SyncerPool
    chance: random.Random

    async def happens(self, histories: Sequence[History], fault: "Fault") -> None:
        """Have things happen while the fault befalls, and wait until all is done."""
        async with (
            open_publisher(self.redis, Divisions(self.redis)) as publisher,
            background(fault(self), name="fault"),
        ):
            await happen(histories, publisher.publish, self.chance, span=SPAN)
        await leads_drained(self.redis, self.tables, within=PATIENCE)

    async def one_owning(self) -> int:
        """Return a syncer that owns something and is awake."""

        async def owning() -> list[int]:
            return await self.pool.owning()

        return self.chance.choice(await eventually(owning, within=PATIENCE))


Fault = Callable[[Stage], Coroutine[Any, Any, None]]


async def nothing(stage: Stage) -> None:
    """Let things happen."""


async def locked_table(stage: Stage) -> None:
    """Keep everybody from the table of leads for a while."""
    async with await psycopg.AsyncConnection.connect(stage.dsn) as connection:
        await connection.execute("LOCK TABLE leads.lead IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(LOCKED.total_seconds())


async def kills(stage: Stage) -> None:
    """Kill owners, and start others."""
    while True:
        await asyncio.sleep(stage.chance.uniform(0, LEASE.total_seconds()))
        stage.pool.kill(await stage.one_owning())
        await stage.pool.start()


async def sleeps(stage: Stage) -> None:
    """Stop owners until after their lease."""
    while True:
        pid = await stage.one_owning()
        stage.pool.put_to_sleep(pid)
        try:
            await asyncio.sleep(LEASE.total_seconds() * stage.chance.uniform(1.2, 2))
        finally:
            stage.pool.wake(pid)


async def valkey_killed(stage: Stage) -> None:
    """Kill Valkey, and start it again, a few times."""
    for _ in range(2):
        await asyncio.sleep(stage.chance.uniform(0, SPAN.total_seconds() / 4))
        await stage.valkey.kill()
        await stage.valkey.start()


async def a_faltering_key(stage: Stage) -> None:
    """Let handlers fail, which they do in all but plain syncers."""


FAULTS: tuple[Fault, ...] = (nothing, locked_table, kills, sleeps, valkey_killed, a_faltering_key)
PLAIN = (nothing, locked_table)
EVERYTHING = [(syncers, fault) for syncers in (1, 3, 8) for fault in FAULTS]
SOME = [(3, fault) for fault in random.Random(SEED).sample(FAULTS[1:], 2)]


@pytest.fixture
def stage(
    redis: Redis, valkey: EmbeddedValkey, postgres_dsn: str, pool: SyncerPool, chance: random.Random
) -> Stage:
    return Stage(redis, valkey, Tables(postgres_dsn), postgres_dsn, pool, chance)


def some_histories(chance: random.Random, number: int = LEADS) -> list[History]:
    """Return what happens to leads, of which a few have events that fail where anything does."""
    marks = [FALTERING] * FEW + [None] * (number - FEW)
    return [history(chance, mark=mark) for mark in marks]


@pytest.mark.parametrize(
    ("syncers", "fault"),
    EVERYTHING if FULL else SOME,
    ids=lambda value: value if isinstance(value, int) else value.__name__,
)
async def test_changes_of_a_lead_keep_their_order(
    syncers: int, fault: Fault, stage: Stage, figure: Figure
) -> None:
    histories = some_histories(stage.chance)
    stage.pool.role = "plain" if fault in PLAIN else "faltering"
    await stage.pool.start(number=syncers)
    await stage.pool.settled()
    await stage.happens(histories, fault)
    await check_order(stage.tables, histories)
    name = fault.__name__.replace("_", " ")
    figure(f"{syncers} syncers, {name}: {len(histories)} leads x {CHANGES} changes, 0 inversions")


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal."""
    # Its name, in brackets, may have spaces.
    state, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return state == "T"


async def sleep_through(stage: Stage, role: str) -> None:
    """Have a syncer sleep over an event that its successor gives up, and go on with it later."""
    sleepy = history(stage.chance, is_deleted=False)
    created, changed, *rest = sleepy.events
    stage.pool.role = role
    await stage.pool.start(number=2)
    await stage.pool.settled()
    async with open_publisher(stage.redis, Divisions(stage.redis)) as publisher:
        for event in (created, replace(changed, correlation_id=SLEEPY), *rest):
            await publisher.publish(event)

    async def asleep() -> int:
        pid = int(await stage.redis.get(ASLEEP) or 0)
        # It says so before it stops. Stopped and woken in between, it would stop after that.
        return pid if pid and is_stopped(pid) else 0

    sleeper = await eventually(asleep)
    stage.pool.put_to_sleep(sleeper)
    await leads_drained(stage.redis, stage.tables)
    stage.pool.wake(sleeper)
    await asyncio.sleep(LEASE.total_seconds())
    await check_order(stage.tables, [sleepy], parked=1)


async def test_who_slept_past_the_lease_changes_nothing(stage: Stage, figure: Figure) -> None:
    await sleep_through(stage, "sleepy")
    figure("an owner goes on with what its successor has given up: 0 inversions")


async def test_control_without_a_fence_a_sleeper_inverts(stage: Stage, figure: Figure) -> None:
    with pytest.raises(AssertionError, match=r"^1 leads out of order") as failed:
        await sleep_through(stage, "unfenced")
    figure(f"no fence, and an owner that sleeps: {str(failed.value).splitlines()[0]}")


async def test_control_a_shared_group_inverts(stage: Stage, figure: Figure) -> None:
    histories = some_histories(stage.chance, FEWER)

    async def publish(event: Event) -> None:
        await stage.redis.xadd(catalog.LEADS, encode(event))

    stage.pool.role = "sharing"
    await stage.pool.start(number=3)
    await happen(histories, publish, stage.chance, span=LEASE)
    await drained(stage.redis, stream=catalog.LEADS)
    with pytest.raises(AssertionError, match=r"^[1-9]\d* leads out of order") as failed:
        await check_order(stage.tables, histories)
    figure(f"a shared group: {str(failed.value).splitlines()[0]}")
