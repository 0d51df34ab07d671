"""I1: what was answered 201 or 202 is in PostgreSQL, whatever is killed."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from shared.background import background
from tests.faults.clients import Clients, clients_of
from tests.faults.conftest import Figure
from tests.faults.crashing_syncer import Point, dies
from tests.faults.database import Tables
from tests.faults.scale import scaled
from tests.faults.system import APIS, POSTGRES, SYNCERS, VALKEY, System
from tests.support.builders import lead_body
from tests.support.eventually import eventually

LEADS = scaled(600, 50_000)
KILLS = scaled(6, 200)
CALLERS = scaled(32, 200)
VICTIMS = (*APIS, *SYNCERS, VALKEY, POSTGRES)
RECOVERY = timedelta(seconds=60)
BETWEEN_KILLS = 0.05


class Load:
    """Creates leads, each until it is accepted, and knows which were."""

    def __init__(self, clients: Clients, number: int) -> None:
        self._clients = clients
        self._left = iter(range(number))
        self.statuses: dict[str, int] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CALLERS):
                tasks.create_task(self._call(), name=f"caller {number}")

    async def _call(self) -> None:
        for _ in self._left:
            body: dict[str, Any] = lead_body()
            answer = await self._clients.create_surely(body)
            self.statuses[body["email"]] = answer.status


async def check_all_there(system: System, accepted: Iterable[str], *, within: timedelta) -> None:
    """Fail unless each accepted lead is in PostgreSQL in time."""
    tables, wanted = Tables(system.postgres.dsn), set(accepted)

    async def none_lost() -> bool:
        lost = wanted.difference(await tables.emails())
        assert not lost, f"{len(lost)} accepted leads are lost"
        return True

    await eventually(none_lost, within=within)


@asynccontextmanager
async def killing(system: System, chance: random.Random, load: Load) -> AsyncGenerator[list[str]]:
    """Kill components by chance, evenly over the load, each when the last one is back."""
    killed: list[str] = []

    async def kill_all() -> None:
        while len(killed) < KILLS:
            if len(load.statuses) * KILLS >= len(killed) * LEADS:
                killed.append(chance.choice(VICTIMS))
                await system.kill(killed[-1])
                await system.start(killed[-1])
            await asyncio.sleep(chance.uniform(0, BETWEEN_KILLS))

    async with background(kill_all(), name="killer"):
        yield killed


async def test_nothing_accepted_is_lost_whatever_is_killed(
    system: System, chance: random.Random, figure: Figure
) -> None:
    tables = Tables(system.postgres.dsn)
    async with clients_of(system, chance) as clients:
        load = Load(clients, LEADS)
        async with killing(system, chance, load) as killed:
            await load.run()
        await system.repair()
        await check_all_there(system, load.statuses, within=RECOVERY)
    # Others' leads may still come: the system is shared.
    stored = [email for email in await tables.emails() if email in load.statuses]
    assert len(stored) == len(load.statuses) == LEADS
    assert await tables.dead_letters() == []
    later = sum(status == 202 for status in load.statuses.values())
    figure(f"{LEADS:,} leads ({later:,} by 202), {len(killed)} kills: 0 lost, 0 doubled")


async def test_control_a_syncer_that_moves_too_early_loses_leads(
    system: System, chance: random.Random, figure: Figure
) -> None:
    await system.stop(*SYNCERS)
    mark = f"mark-{chance.random()}"
    leads = [lead_body() for _ in range(10)]
    async with clients_of(system, chance) as clients:
        for lead in leads:
            answer = await clients.create(lead, Prefer="respond-async", X_Request_Id=mark)
            assert answer is not None
            assert answer.status == 202
    assert await dies(Point.BEFORE_COMMIT, mark, "moves-on-reading", environment=system.environment)
    await system.repair()
    with pytest.raises(AssertionError, match="10 accepted leads are lost"):
        await check_all_there(
            system, [lead["email"] for lead in leads], within=timedelta(seconds=1)
        )
    figure("a syncer that moves its position on reading: 10 of 10 lost")
