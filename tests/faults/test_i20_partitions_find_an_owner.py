"""I20: syncers come, go, die and sleep: partitions find a living owner, and no event is lost."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from shared.background import background
from shared.storage.partitions import STUCK
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import open_publisher
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.histories import CHANGES, check_order, happen, history
from tests.faults.scale import scaled
from tests.faults.streams import leads_drained
from tests.faults.syncer_pool import LEASE, PARTITIONS, SyncerPool

ACTIONS = scaled(12, 200)
LEADS = scaled(60, 2_000)
LONGEST_PAUSE = 0.6
SPAN = timedelta(seconds=LONGEST_PAUSE / 2) * ACTIONS
FEWEST_AWAKE, MOST_ASLEEP, MOST = 2, 2, 5
# A machine with other work to do needs a while to look around.
SLACK = timedelta(seconds=2)
# Who is stopped within a transaction has its partitions until PostgreSQL ends that.
LIMIT = max(LEASE, STUCK) + SLACK
LOOK_EVERY = 0.1
PATIENCE = timedelta(seconds=60)


class Watch:
    """Looks for how long a partition has no owner that is alive and awake."""

    def __init__(self, pool: SyncerPool, *, limit: timedelta) -> None:
        self._pool = pool
        self._limit = limit.total_seconds()
        self._owned_at = dict.fromkeys(range(PARTITIONS), time.monotonic())
        self.longest = 0.0

    async def run(self) -> None:
        """Look on, and fail once it is too long."""
        while True:
            began = time.monotonic()
            owners = await self._pool.owners()
            for number, owner in owners.items():
                if owner in self._pool.awake:
                    self._owned_at[number] = began
            without = [time.monotonic() - at for at in self._owned_at.values()]
            self.longest = max(self.longest, *without)
            late = sum(seconds > self._limit for seconds in without)
            assert not late, f"{late} partitions without a living owner for {self.longest:.1f} s"
            await asyncio.sleep(LOOK_EVERY)


@dataclass(frozen=True, slots=True)
class Turmoil:
    """Does things to syncers by chance, one after another."""

    pool: SyncerPool
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter[str])

    async def rage(self) -> None:
        """Do them all, and let everybody be awake in the end."""
        for _ in range(ACTIONS):
            action = self.chance.choice(self._possible())
            self.done[action] += 1
            await self._do(action)
            await asyncio.sleep(self.chance.uniform(0, LONGEST_PAUSE))
        for sleeper in list(self.pool.asleep):
            self.pool.wake(sleeper)

    def _possible(self) -> list[str]:
        awake, asleep = len(self.pool.awake), len(self.pool.asleep)
        possible = ["join"] if awake + asleep < MOST else []
        if awake > FEWEST_AWAKE:
            possible += ["leave", "kill"] + ["sleep"] * (asleep < MOST_ASLEEP)
        return possible + ["wake"] * (asleep > 0)

    async def _do(self, action: str) -> None:
        pool = self.pool
        if action == "join":
            await pool.start()
        elif action == "wake":
            pool.wake(self.chance.choice(pool.asleep))
        else:
            ways = {"leave": pool.end, "kill": pool.kill, "sleep": pool.put_to_sleep}
            ways[action](self.chance.choice(pool.awake))


async def test_partitions_find_an_owner_and_nothing_is_lost(
    pool: SyncerPool, redis: Redis, postgres_dsn: str, chance: random.Random, figure: Figure
) -> None:
    tables, turmoil = Tables(postgres_dsn), Turmoil(pool, chance)
    histories = [history(chance) for _ in range(LEADS)]
    await pool.start(number=3)
    await pool.settled()
    watch = Watch(pool, limit=LIMIT)
    async with (
        open_publisher(redis, Divisions(redis)) as publisher,
        background(watch.run(), name="watch"),
        asyncio.TaskGroup() as tasks,
    ):
        load = happen(histories, publisher.publish, chance, span=SPAN)
        tasks.create_task(load, name="load")
        tasks.create_task(turmoil.rage(), name="turmoil")
    await leads_drained(redis, tables, within=PATIENCE)
    await check_order(tables, histories)
    actions = ", ".join(f"{number} {name}" for name, number in sorted(turmoil.done.items()))
    figure(
        f"{ACTIONS} actions ({actions}), {LEADS * CHANGES:,} events: 0 lost, 0 doubled; longest "
        f"without an owner {watch.longest:.1f} s"
    )


async def test_control_without_a_take_over_partitions_are_left(
    pool: SyncerPool, figure: Figure
) -> None:
    pool.role = "alone"
    await pool.start(number=2)
    await pool.settled()
    with pytest.raises(AssertionError, match="without a living owner") as failed:
        await kill_and_watch(pool)
    figure(f"nobody takes over from the dead: {str(failed.value).splitlines()[0]}")


async def kill_and_watch(pool: SyncerPool) -> None:
    watch = Watch(pool, limit=LEASE + SLACK)
    async with background(watch.run(), name="watch"):
        pool.kill(pool.awake[0])
        await asyncio.sleep(LIMIT.total_seconds())
