"""I10: the memory of a stream, its partitions together, is bounded; past it creates get 503."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from shared.background import background
from shared.events import catalog
from shared.events.envelope import new_id
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import memory_of, open_publisher
from tests.faults.clients import Clients, clients_of
from tests.faults.conftest import Figure
from tests.faults.scale import FULL
from tests.faults.system import STREAM_MAX_BYTES, SYNCERS, System
from tests.faults.test_i01_accepted_is_kept import check_all_there
from tests.support.builders import lead_body, lead_created, lead_fields
from tests.support.eventually import eventually

CALLERS = 32
REFUSALS = 300
# What may be added between two measurements of the stream, on a busy machine too.
SLACK = 1_500_000
SAMPLE_EVERY = 0.05
RECOVERY = timedelta(seconds=30)
LONGEST = timedelta(seconds=60)

Create = Callable[[str], Awaitable[bool]]


class Pressure:
    """Creates leads as fast as it can while no process consumes them.

    `create` makes one with an e-mail address, and tells whether it was accepted.
    """

    def __init__(self, create: Create, redis: Redis) -> None:
        self._create = create
        self._redis = redis
        self.accepted: list[str] = []
        self.refused = 0
        self.most_bytes = 0

    async def check_plateau(self) -> None:
        """Go on until enough was refused; fail if the stream outgrows its bound first."""
        async with (
            asyncio.timeout(LONGEST.total_seconds()),
            background(self._sample(), name="memory"),
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(CALLERS):
                tasks.create_task(self._press(), name=f"caller {number}")

    async def _press(self) -> None:
        while self.refused < REFUSALS:
            email = f"{new_id()}@example.com"
            if await self._create(email):
                self.accepted.append(email)
            else:
                self.refused += 1

    async def _sample(self) -> None:
        while True:
            streams = await Divisions(self._redis).streams_of(catalog.LEADS)
            self.most_bytes = max(self.most_bytes, await memory_of(self._redis, *streams))
            assert self.most_bytes < STREAM_MAX_BYTES + SLACK, "the stream outgrew its bound"
            await asyncio.sleep(SAMPLE_EVERY)


def creating_with(clients: Clients) -> Create:
    async def create(email: str) -> bool:
        answer = await clients.create(lead_body(email=email), Prefer="respond-async")
        assert answer is not None
        assert answer.status in {202, 503}, answer
        return answer.status == 202

    return create


@contextmanager
def stalled(system: System) -> Generator[None]:
    """Have the syncers sleep for the length of the block."""
    for name in SYNCERS:
        system.signal(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in SYNCERS:
            system.signal(name, signal.SIGCONT)


async def has_room(clients: Clients) -> bool:
    answer = await clients.create()
    return answer is not None and answer.status == 201


async def test_a_full_stream_refuses_and_loses_nothing(
    system: System, chance: random.Random, figure: Figure
) -> None:
    async with clients_of(system, chance) as clients, Redis.from_url(system.valkey.url) as redis:
        pressure = Pressure(creating_with(clients), redis)
        with stalled(system):
            await pressure.check_plateau()
        await check_all_there(system, pressure.accepted, within=RECOVERY)
        if FULL:
            await eventually(lambda: has_room(clients), within=RECOVERY)
        else:
            await redis.flushall()  # what the syncers' next housekeeping would do
    figure(
        f"{STREAM_MAX_BYTES / 1e6:.1f} MB bound: plateau at {pressure.most_bytes / 1e6:.1f} MB, "
        f"{len(pressure.accepted):,} accepted, {pressure.refused} times 503, 0 lost"
    )


@pytest.mark.long
async def test_control_without_a_bound_the_stream_grows(redis: Redis, figure: Figure) -> None:
    async with open_publisher(redis, Divisions(redis)) as publisher:

        async def publish(email: str) -> bool:
            await publisher.publish(lead_created(lead_fields(email=email)))
            return True

        pressure = Pressure(publish, redis)
        with pytest.raises(AssertionError, match="outgrew its bound"):
            await pressure.check_plateau()
    figure(f"a publisher without a bound: {pressure.most_bytes / 1e6:.1f} MB and growing")
