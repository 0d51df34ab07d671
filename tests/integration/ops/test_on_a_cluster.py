"""Everything on a Redis Cluster: what clients ask for, and what operators see and do."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import pytest
from redis.asyncio import Redis

from ops.running import Servers
from services.summarizer.storage.budget import MinuteBudget
from shared.domain.errors import TransientError
from shared.events import catalog
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.observability.metrics import REGISTRY
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.inbox import EventStore
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from shared.streams.model_pauses import ModelPauses
from shared.streams.publisher import add_events
from tests.conftest import LEADS_DIVISION
from tests.integration.ops.conftest import Ops
from tests.integration.ops.test_dead_letters import parked
from tests.integration.ops.test_exporter import read, values
from tests.support.builders import lead_created, summary_requested
from tests.support.clusters import MASTERS, Cluster
from tests.support.eventually import eventually
from tests.support.whole_system import open_system, services_on
from tests.support.workers import Workers

pytestmark = pytest.mark.long

CONSUMED = (catalog.LEADS, catalog.SUMMARIES, catalog.IMPORTS, catalog.SYNC)


@pytest.fixture
def redis_url(cluster: Cluster) -> str:
    """Return the cluster's address in the place of one server's."""
    return cluster.url


async def is_all_done(ops: Ops) -> bool:
    """Return whether operators see that nothing is left to do for any group."""
    streams = (await ops("streams", *CONSUMED, "--json")).json
    groups = {one["name"]: one["groups"] for one in streams}
    assert [len(groups[name]) for name in CONSUMED] == [1] * len(CONSUMED)
    left = ("undelivered", "pending", "retries")
    return all(one[kind] == 0 for [one] in groups.values() for kind in left)


async def test_what_is_taken_of_the_model_is_measured(redis: Redis) -> None:
    budget = MinuteBudget(redis, name="model", account="ours", calls=10, tokens=1_000)
    await budget.reserve(tokens=250, within=timedelta(), background=False)
    await budget.measure()
    shown = {
        one: REGISTRY.get_sample_value("leads_model_budget_ratio", {"budget": one})
        for one in ("calls", "tokens")
    }
    assert shown == {"calls": 0.1, "tokens": 0.25}


async def test_requests_of_all_kinds_are_carried_out(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    redis: Redis,
    database: Database,
    ops: Ops,
) -> None:
    servers = (postgres_settings, streams_settings, cache_settings)
    open_services = services_on(*servers)
    async with open_services(), open_system(*servers, redis) as system:
        for request in (
            *(system.create, system.read, system.summarise),
            *(system.tick, system.replay, system.import_file),
        ):
            await request()
        letter = lead_created()
        await DeadLetterRepository(database).add_letter(parked(letter))
        retried = await ops("dead-letters", "retry", "--reason", "attempts", "--yes", "--json")
        assert retried.json == {"retried": 1, "hopeless": 0}

        async def is_applied() -> bool:
            return bool(await EventStore(database).ends([letter.id]))

        await eventually(is_applied)
        await eventually(partial(is_all_done, ops))
        findings = (await ops("doctor", "--json")).json
    assert not [one for one in findings if one["severity"] == "failure"]
    assert sum(one["check"].startswith("redis clock ") for one in findings) == MASTERS
    assert entries_of(await redis.xrange(catalog.CHANGES))


async def test_what_failed_comes_back_from_beside_its_stream(
    redis: Redis, streams_settings: StreamsSettings
) -> None:
    attempts: list[int] = []

    async def fails_at_first(events: Sequence[Event]) -> list[Outcome]:
        attempts.extend(event.attempt for event in events)
        if attempts[-1] == 1:
            raise TransientError("not yet")
        return [Outcome(OutcomeStatus.CREATED) for _ in events]

    async with Workers(redis, streams_settings).running(fails_at_first):
        await add_events(redis, [summary_requested()])

        async def has_come_back() -> bool:
            return attempts == [1, 2]

        await eventually(has_come_back)


async def test_summarizers_share_a_budget(redis: Redis) -> None:
    budget = MinuteBudget(redis, name="groq:model", account="ours", calls=2, tokens=0)
    within = timedelta(seconds=1)
    first = await budget.reserve(tokens=10, within=within, background=False)
    assert not isinstance(first, timedelta)
    await budget.settle(first, tokens=5)
    await budget.pause(timedelta(seconds=30))
    assert isinstance(await budget.reserve(tokens=10, within=within, background=False), timedelta)
    assert [pause.name for pause in await ModelPauses(redis).lift()] == ["groq:model"]
    assert not isinstance(
        await budget.reserve(tokens=10, within=within, background=False), timedelta
    )


async def test_the_exporter_reads_every_master(redis: Redis, database: Database) -> None:
    partitions = LEADS_DIVISION.last.partitions
    await PartitionRepository(database).divide(catalog.LEADS, partitions=partitions, is_open=True)
    await add_events(redis, [lead_created() for _ in range(30)])
    samples = await read(Servers(redis, database))
    backlog = values(samples, "leads_backlog_events")
    undelivered = [
        number
        for (stream, _, _, state), number in backlog.items()
        if (stream, state) == (catalog.LEADS, "undelivered")
    ]
    assert (len(undelivered), sum(undelivered)) == (partitions, 30)
    assert len(values(samples, "leads_clock_skew_seconds")) == MASTERS + 1  # and PostgreSQL's
    assert values(samples, "leads_server_writable") == {("redis",): 1, ("postgres",): 1}
