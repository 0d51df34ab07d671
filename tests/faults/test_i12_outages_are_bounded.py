"""I12: while a dependency is out answers come in time, and afterwards nothing needs a restart."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from shared.events.data import SyncRequested
from shared.events.envelope import Event
from shared.streams.publisher import add_events
from tests.faults.clients import Answer, Clients, clients_of
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.scale import FULL, scaled
from tests.faults.system import AUTH, GROQ, POSTGRES, SERVICES, SOURCE, VALKEY, System
from tests.support.eventually import eventually

LATENCY = timedelta(milliseconds=200)
ROUNDS = scaled(1, 2)
RECOVERY = timedelta(seconds=30)
BUSY_MACHINE = timedelta(seconds=1)

Ask = Callable[[Clients, str], Awaitable[Answer | None]]
Fault = Callable[[System, str], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Probe:
    """A request, what it is answered while all is well, and what else while not; by when."""

    name: str
    ask: Ask
    well: int
    allowed: frozenset[int]
    within: timedelta

    async def check(self, clients: Clients, lead: str, *, well: bool = False) -> None:
        """Fail unless the answer is one of those, in time."""
        limit = self.within + BUSY_MACHINE
        try:
            async with asyncio.timeout(limit.total_seconds()):
                answer = await self.ask(clients, lead)
        except TimeoutError:
            raise AssertionError(f"{self.name}: no answer in {limit.total_seconds():g} s") from None
        assert answer is not None, f"{self.name}: the connection ended"
        allowed = {self.well} if well else self.allowed | {self.well}
        assert answer.status in allowed, f"{self.name}: {answer}"


def probe(name: str, ask: Ask, *, well: int, seconds: float, or_: Sequence[int] = (503,)) -> Probe:
    return Probe(name, ask, well, frozenset(or_), timedelta(seconds=seconds))


# A create waits for Redis, for its lead and then for Redis once more; the others are simpler.
CREATE = probe("create", lambda clients, _: clients.create(), well=201, seconds=5, or_=(202, 503))
READ = probe("read", lambda clients, lead: clients.ask("GET", lead), well=200, seconds=2)
LIST = probe("list", lambda clients, _: clients.ask("GET", "/leads"), well=200, seconds=2)
READY = probe("ready", lambda clients, _: clients.ask("GET", "/health/ready"), well=200, seconds=2)
LOG_IN = probe("log-in", lambda clients, _: clients.log_in(), well=200, seconds=2)
SUMMARY = probe(
    "summary",
    lambda clients, lead: clients.ask("POST", f"{lead}/summary?regenerate=true"),
    well=200,
    seconds=6,
    or_=(202, 429, 503),
)
PROBES = {
    POSTGRES: (CREATE, READ, LIST, READY, SUMMARY),
    VALKEY: (CREATE, READ, LIST, READY, SUMMARY),
    GROQ: (SUMMARY, CREATE),
    AUTH: (LOG_IN, CREATE, READ),
    SOURCE: (CREATE,),
}


@asynccontextmanager
async def latency(system: System, name: str) -> AsyncGenerator[None]:
    system.links[name].latency = LATENCY
    yield
    system.links[name].heal()


@asynccontextmanager
async def reset(system: System, name: str) -> AsyncGenerator[None]:
    system.links[name].reset()
    yield
    system.links[name].heal()


@asynccontextmanager
async def blackhole(system: System, name: str) -> AsyncGenerator[None]:
    system.links[name].swallow()
    yield
    system.links[name].heal()


@asynccontextmanager
async def restart(system: System, name: str) -> AsyncGenerator[None]:
    await system.kill(name)
    yield
    await system.start(name)


@asynccontextmanager
async def flushall(system: System, name: str) -> AsyncGenerator[None]:
    assert name == VALKEY
    async with Redis.from_url(system.valkey.url) as redis:
        await redis.flushall()
    yield


EVERYWHERE: tuple[Fault, ...] = (latency, reset, blackhole, restart)
FAULTS = dict.fromkeys(PROBES, EVERYWHERE) | {VALKEY: (*EVERYWHERE, flushall)}


async def check_outage(
    system: System, clients: Clients, name: str, fault: Fault, probes: Sequence[Probe]
) -> timedelta:
    """Have a fault and let it pass; returns how long it took until all was well again."""
    lead = f"/leads/{(await clients.create_surely()).body['id']}"
    pids = [system.services[service].pid for service in SERVICES]
    async with fault(system, name):
        for _ in range(ROUNDS):
            await asyncio.gather(*(probe.check(clients, lead) for probe in probes))
    healed_at = time.monotonic()

    async def all_well() -> bool:
        await asyncio.gather(*(probe.check(clients, lead, well=True) for probe in probes))
        return True

    await eventually(all_well, within=RECOVERY)
    assert [system.services[service].pid for service in SERVICES] == pids
    return timedelta(seconds=time.monotonic() - healed_at)


@pytest.mark.parametrize("name", list(PROBES))
async def test_an_outage_is_answered_in_time_and_passes(
    name: str, system: System, chance: random.Random, figure: Figure
) -> None:
    faults = FAULTS[name] if FULL else (chance.choice(FAULTS[name]),)
    slowest = timedelta(0)
    async with clients_of(system, chance) as clients:
        for fault in faults:
            probes = list(PROBES[name])
            if name == SOURCE:
                probes.append(_sync_probe(system))
            slowest = max(slowest, await check_outage(system, clients, name, fault, probes))
    names = ", ".join(fault.__name__ for fault in faults)
    figure(f"{name}, {names}: 0 hangs, well again in {slowest.total_seconds():.1f} s")


def _sync_probe(system: System) -> Probe:
    """Return a request for a sync that is answered by the run's end."""
    tables = Tables(system.postgres.dsn)
    states = {"succeeded": 200, "failed": 503}

    async def ask(_clients: Clients, _lead: str) -> Answer:
        event = Event(source="tests", subject="sync", data=SyncRequested(requested_by="tests"))
        began = time.monotonic()
        async with Redis.from_url(system.valkey.url, protocol=3) as redis:
            await add_events(redis, [event])

        async def end() -> str | None:
            rows = await tables.rows("SELECT state FROM leads.sync_run WHERE id = %s", event.id)
            return next((row[0] for row in rows if row[0] in states), None)

        state = await eventually(end, within=timedelta(seconds=20))
        assert state is not None
        return Answer(states[state], None, time.monotonic() - began)

    return probe("sync", ask, well=200, seconds=5)


@pytest.mark.long
async def test_control_without_deadlines_requests_hang(
    system: System, chance: random.Random, figure: Figure
) -> None:
    names = ("CACHE", "READ", "REQUEST", "POSTGRES", "REDIS", "PUBLISH", "CREATE")
    patient = system.service("api.patient", **{f"{name}_TIMEOUT": "60" for name in names})
    system.services[patient.name] = patient
    async with AsyncExitStack() as stack:
        stack.callback(system.services.pop, patient.name)
        await patient.start()
        stack.push_async_callback(patient.kill)
        await patient.ready()
        clients = await stack.enter_async_context(clients_of(system, chance))
        read = probe(
            "read",
            lambda clients, lead: clients.ask("GET", lead, api=patient.name),
            well=200,
            seconds=2,
        )
        with pytest.raises(AssertionError, match="read: no answer in 3 s"):
            await check_outage(system, clients, VALKEY, blackhole, [read])
    figure("an API without deadlines: no answer in 3 s")
