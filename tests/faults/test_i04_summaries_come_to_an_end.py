"""I4: every accepted summary reaches exactly one final state by its deadline and a minute."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from redis.asyncio import Redis

from services.summarizer.bootstrap import bootstrap
from services.summarizer.providers import Provider
from shared.background import background
from shared.events.data import SummaryRequested
from shared.events.envelope import Event
from shared.lifecycle import instance_name
from shared.settings import CacheSettings, ConsumerSettings, PostgresSettings, StreamsSettings
from shared.streams.consuming.group import Group
from shared.streams.consuming.worker import Parts
from shared.streams.publisher import add_events
from shared.streams.workers import open_workers
from tests.faults.clients import Answer, Clients, clients_of
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.defects import AcknowledgesOnReading
from tests.faults.scale import scaled
from tests.faults.streams import leads_drained
from tests.faults.system import APIS, GROQ, SUMMARIZER, System
from tests.support.builders import lead_created
from tests.support.eventually import eventually
from tests.support.summaries import Says, Waits
from tests.support.summarizer import summarizer_settings
from tests.support.syncer import running_syncer

REQUESTS = scaled(60, 2_000)
LEADS = scaled(20, 200)
KILLS = scaled(2, 100)
CALLERS = scaled(16, 100)
FEW = 5
MODEL_TAKES = 0.1
BY_THE_END = timedelta(seconds=68)
FINAL = {"succeeded", "failed"}

# Notes every final state that is left again.
_WATCH = """
    CREATE TABLE leads.left_final AS SELECT id, state FROM leads.summary WHERE false;
    CREATE FUNCTION leads.note_left_final() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO leads.left_final VALUES (OLD.id, OLD.state); RETURN NEW; END
    $$;
    CREATE TRIGGER left_final AFTER UPDATE OF state ON leads.summary FOR EACH ROW
        WHEN (OLD.state IN ('succeeded', 'failed') AND NEW.state <> OLD.state)
        EXECUTE FUNCTION leads.note_left_final();
"""
_UNWATCH = "DROP FUNCTION leads.note_left_final() CASCADE; DROP TABLE leads.left_final"


@asynccontextmanager
async def watched(system: System) -> AsyncGenerator[None]:
    """Have PostgreSQL note final states that are left, for the length of the block."""
    for_all = await psycopg.AsyncConnection.connect(system.postgres.dsn, autocommit=True)
    async with for_all:
        await for_all.execute(_WATCH)
        try:
            yield
        finally:
            await for_all.execute(_UNWATCH)


async def check_all_final(tables: Tables, *, requests: int, within: timedelta) -> None:
    """Fail unless all requests for summaries come to an end in time."""

    async def none_pending() -> bool:
        rows = await tables.rows("SELECT state, count(*) FROM leads.summary GROUP BY state")
        states: dict[str, int] = dict(rows)
        pending = {state: count for state, count in states.items() if state not in FINAL}
        assert not pending, f"pending: {pending}"
        assert sum(states.values()) == requests
        return True

    await eventually(none_pending, within=within)


class Requests:
    """Asks for summaries of a few leads, each until it is accepted."""

    def __init__(self, clients: Clients, leads: list[str], chance: random.Random) -> None:
        self._clients = clients
        self._leads = leads
        self._chance = chance
        self._left = iter(range(REQUESTS))
        self.accepted: list[Answer] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CALLERS):
                tasks.create_task(self._call(), name=f"caller {number}")

    async def _call(self) -> None:
        for _ in self._left:
            path = f"/leads/{self._chance.choice(self._leads)}/summary?regenerate=true"
            headers = self._chance.choice([{}, {"Prefer": "respond-async"}])
            self.accepted.append(await self._insist(path, headers))

    async def _insist(self, path: str, headers: dict[str, str]) -> Answer:
        async def request(key: str) -> Answer | None:
            return await self._clients.ask("POST", path, Idempotency_Key=key, **headers)

        return await self._clients.insist(request)


async def kill_now_and_then(
    system: System, chance: random.Random, requests: Requests, kills: list[str]
) -> None:
    """Kill APIs and the summarizer, evenly over the requests."""
    while len(kills) < KILLS:
        if len(requests.accepted) * KILLS >= len(kills) * REQUESTS:
            kills.append(chance.choice([SUMMARIZER, chance.choice(APIS)]))
            await system.kill(kills[-1])
            await system.start(kills[-1])
        await asyncio.sleep(0.01)


async def test_every_accepted_summary_comes_to_one_end(
    system: System, chance: random.Random, figure: Figure
) -> None:
    tables, kills = Tables(system.postgres.dsn), list[str]()
    before = await tables.value("SELECT count(*) FROM leads.summary")
    slow = system.control(GROQ).misbehaving(delay=MODEL_TAKES)
    async with clients_of(system, chance) as clients, watched(system), slow:
        leads = [(await clients.create_surely()).body["id"] for _ in range(LEADS)]
        requests = Requests(clients, leads, chance)
        async with background(kill_now_and_then(system, chance, requests, kills), name="killer"):
            await requests.run()
        await system.repair()
        await check_all_final(tables, requests=before + REQUESTS, within=BY_THE_END)
        assert await tables.rows("SELECT * FROM leads.left_final") == []
        failed = sum(answer.status > 202 for answer in requests.accepted)
        later = [answer.body["id"] for answer in requests.accepted if answer.status == 202]
        for operation in later:
            answer = await clients.ask("GET", f"/operations/{operation}")
            assert answer is not None
            assert answer.body["status"] in FINAL
    figure(
        f"{REQUESTS:,} requests ({len(later):,} by 202, {failed:,} failed), {len(kills)} kills: "
        "0 pending, 0 final states left"
    )


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the summarizers of a test work."""

    postgres: PostgresSettings
    streams: StreamsSettings

    async def work(
        self, provider: Provider, done: Callable[[], Awaitable[object]], make_group: type[Group]
    ) -> None:
        """Run a summarizer without a sweeper until done, and stop it at once."""
        settings = summarizer_settings(self.postgres, self.streams)
        consuming = ConsumerSettings(
            stream_block=timedelta(seconds=0.1),
            stream_lease=timedelta(seconds=0.3),
            shutdown_deadline=timedelta(seconds=0.05),
        )
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            context = await stack.enter_async_context(bootstrap(settings, provider=provider))
            opening = open_workers(
                context.redis,
                context.subscriptions[:1],
                streams=self.streams,
                dead_letters=context.dead_letters,
                settings=consuming,
                name=instance_name("summarizer"),
                stop=stop,
                parts=Parts(group=make_group),
            )
            [worker] = await stack.enter_async_context(opening)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(worker.run(), name="worker")
            stack.callback(stop.set)
            await done()


@pytest.fixture
async def servers(
    redis: Redis, postgres_settings: PostgresSettings, streams_settings: StreamsSettings
) -> Servers:
    """Return servers where a few requests for summaries wait."""
    created = [lead_created() for _ in range(FEW)]
    await add_events(redis, created)
    async with running_syncer(postgres_settings, streams_settings, CacheSettings()):
        await leads_drained(redis, Tables(postgres_settings.dsn))
    wishes = [SummaryRequested(lead_id=UUID(event.subject)) for event in created]
    await add_events(
        redis, [Event(source="tests", subject=str(wish.lead_id), data=wish) for wish in wishes]
    )
    return Servers(postgres_settings, streams_settings)


async def check_cut_short(servers: Servers, make_group: type[Group], *, within: timedelta) -> None:
    """Stop a summarizer while the model thinks; fail unless another one ends its requests."""
    tables, thinks = Tables(servers.postgres.dsn), Waits()
    await servers.work(thinks, thinks.asked.wait, make_group)
    await servers.work(
        Says(),
        lambda: check_all_final(tables, requests=FEW, within=within),
        Group,
    )


async def test_another_summarizer_takes_over(servers: Servers, figure: Figure) -> None:
    await check_cut_short(servers, Group, within=timedelta(seconds=10))
    figure(f"a summarizer cut short at {FEW} requests: the next one ends them all")


async def test_control_acknowledging_on_reading_leaves_requests_open(
    servers: Servers, figure: Figure
) -> None:
    with pytest.raises(ExceptionGroup) as failed:
        await check_cut_short(servers, AcknowledgesOnReading, within=timedelta(seconds=1.5))
    assert f"pending: {{'running': {FEW}}}" in repr(failed.value.exceptions)
    figure(f"a group that acknowledges on reading: {FEW} of {FEW} pending")
