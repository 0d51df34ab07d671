"""The exporter's values are what is there, whatever is there; what it cannot read vanishes."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import timedelta
from functools import partial
from urllib.request import urlopen
from uuid import uuid4

import orjson
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from redis.asyncio import Redis
from structlog.testing import capture_logs
from yarl import URL

from devstack.free_ports import free_port
from ops.exporter.postgres import PostgresSource
from ops.exporter.process import DoctorSource, open_sources
from ops.exporter.readings import EVERY, Readings, Samples
from ops.exporter.replicas import SYNCER_WORK
from ops.exporter.settings import ExporterSettings, SharedStateSettings
from ops.exporter.streams import STREAM_BYTES, RedisSource
from ops.running import Servers
from services.summarizer.storage.budget import MinuteBudget
from shared.administration.doctor.examination import Doctor, DoctorSettings
from shared.domain.errors import UnavailableError
from shared.events.catalog import IMPORTS, LEADS, SUMMARIES, SUMMARIZER, SYNC, SYNCER
from shared.events.dead_letter import DeadLetter
from shared.events.partitions import Claim, Member
from shared.observability.outages import Outages
from shared.settings import (
    CacheSettings,
    ObservabilitySettings,
    PostgresSettings,
    ReplicaSettings,
    StreamsSettings,
)
from shared.storage.admin_log import AdminLog
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.storage.sync_runs import SyncRunRepository
from shared.streams.consuming.group import Group
from shared.streams.publisher import add_events
from shared.streams.troubles import Troubles
from tests.conftest import LEADS_DIVISION
from tests.integration.ops.conftest import Ops
from tests.support import outage_states as states
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.outage_states import State
from tests.support.partitions import show_position
from tests.support.tcp_proxy import TcpProxy

SOON = timedelta(seconds=1)
WEEK = timedelta(days=7)
Values = Mapping[tuple[str, ...], float]


@pytest.fixture
async def servers(redis: Redis, database: Database) -> Servers:
    partitions = LEADS_DIVISION.last.partitions
    await PartitionRepository(database).divide(LEADS, partitions=partitions, is_open=True)
    return Servers(redis, database)


async def read(servers: Servers, *, max_bytes: int = 1 << 30, concurrency: int = 500) -> Samples:
    """Read both servers once, as a new exporter would."""
    samples = Samples()
    redis = RedisSource(servers, max_bytes=max_bytes, retention=WEEK, concurrency=concurrency)
    await redis.read(samples)
    await PostgresSource(servers).read(samples)
    return samples


def values(samples: Samples, name: str) -> Values:
    """Return a metric's values by their labels."""
    for one, found in samples.items():
        if one.name == name:
            return dict(found)
    return {}


class TestBacklog:
    async def test_of_a_system_without_work_is_nothing(self, servers: Servers) -> None:
        samples = await read(servers)
        backlog = values(samples, "leads_backlog_events")
        assert set(backlog.values()) == {0}
        assert backlog.keys() == values(samples, "leads_backlog_oldest_seconds").keys() | {
            (stream, "0", group, "retry")
            for stream, group in ((SUMMARIES, SUMMARIZER), (SYNC, SYNCER), (IMPORTS, SYNCER))
        }
        assert (LEADS, "1.2", SYNCER, "held") in backlog
        assert set(values(samples, "leads_backlog_unknown").values()) == {0}
        assert values(samples, "leads_wanted_replicas") == {("syncer",): 1, ("summarizer",): 1}

    async def test_of_a_partition_is_what_comes_after_its_position(
        self, servers: Servers, redis: Redis
    ) -> None:
        name = LEADS_DIVISION.last.name(1)
        young = int(time.time() * 1000) - 5_000
        for place in range(4):
            await redis.xadd(name, {"a": "b"}, id=f"{young + place}-0")
        await show_position(redis, stream=name, group=SYNCER, position=f"{young}-0")
        samples = await read(servers)
        key = (LEADS, "1.1", SYNCER, "undelivered")
        assert values(samples, "leads_backlog_events")[key] == 3
        assert 4.9 < values(samples, "leads_backlog_oldest_seconds")[key] < 60
        assert values(samples, "leads_stream_bytes")[LEADS, "1.1"] > 0
        assert values(samples, "leads_stream_limit_bytes")[LEADS,] == 1 << 30

    async def test_of_a_group_that_was_not_made_yet_is_everything(
        self, servers: Servers, redis: Redis
    ) -> None:
        await add_events(redis, [summary_requested() for _ in range(5)])
        samples = await read(servers)
        key = (SUMMARIES, "0", SUMMARIZER, "undelivered")
        assert values(samples, "leads_backlog_events")[key] == 5
        assert values(samples, "leads_consumers")[SUMMARIES, SUMMARIZER] == 0

    async def test_says_what_is_worked_on_and_by_how_many(
        self, servers: Servers, redis: Redis
    ) -> None:
        await add_events(redis, [summary_requested() for _ in range(5)])
        group = Group(redis, redis, stream=SUMMARIES, group=SUMMARIZER, consumer="one")
        await group.ensure()
        await group.read(count=2, block=timedelta(milliseconds=10))
        await redis.zadd(f"retry:{SUMMARIES}:{SUMMARIZER}", {"[]": 1})
        samples = await read(servers)
        backlog = values(samples, "leads_backlog_events")
        for state, number in (("undelivered", 3), ("pending", 2), ("retry", 1)):
            assert backlog[SUMMARIES, "0", SUMMARIZER, state] == number
        assert values(samples, "leads_consumers")[SUMMARIES, SUMMARIZER] == 1

    async def test_has_what_is_held(self, servers: Servers) -> None:
        async with states.held_key(servers):
            samples = await read(servers)
            key = (LEADS, "1.0", SYNCER, "held")
            assert values(samples, "leads_backlog_events")[key] == 2
            assert values(samples, "leads_backlog_oldest_seconds")[key] > 1e9  # since 1970
        assert values(await read(servers), "leads_backlog_events")[key] == 0


class TestGroups:
    async def test_one_that_nobody_reads_for_blocks_the_trimming(self, servers: Servers) -> None:
        async with states.orphaned_group(servers):
            samples = await read(servers)
            blocked = values(samples, "leads_trim_blocked_seconds")
            assert blocked[LEADS, "backfill"] > 1e9
            assert blocked[SUMMARIES, SUMMARIZER] == 0
            assert (
                values(samples, "leads_backlog_events")[LEADS, "1.2", "backfill", "undelivered"]
                == 1
            )
        samples = await read(servers)
        assert (LEADS, "backfill") not in values(samples, "leads_trim_blocked_seconds")

    async def test_one_that_nobody_knows_blocks_a_large_stream_at_once(
        self, servers: Servers, redis: Redis
    ) -> None:
        old = int(time.time() * 1000) - 60_000
        await redis.xadd(SUMMARIES, {"a": "x" * 5_000}, id=f"{old}-0")
        for name in ("backfill", SUMMARIZER):
            await redis.xgroup_create(SUMMARIES, name, id="0")
        for max_bytes, blocked in ((1 << 30, 0), (1 << 12, 60)):
            found = values(await read(servers, max_bytes=max_bytes), "leads_trim_blocked_seconds")
            assert found[SUMMARIES, "backfill"] == pytest.approx(blocked, abs=30)
            assert found[SUMMARIES, SUMMARIZER] == 0


class TestOwners:
    async def test_are_members_that_give_signs_of_life(
        self, servers: Servers, database: Database
    ) -> None:
        store = PartitionRepository(database)
        living, dead = (Member(uuid4(), f"syncer:here:{n}", "here", "a/b/1/2") for n in (1, 2))
        for number, member in enumerate((living, dead)):
            await store.survey(LEADS, beat=member)
            rows = (await store.survey(LEADS)).partitions
            claim = Claim(LEADS, 1, number, member.token, rows[number].epoch + 1)
            assert await store.claim(claim, rows[number]) is not None
        source, samples = PostgresSource(servers), Samples()
        await source.read(Samples())
        await store.survey(LEADS, beat=living)
        await source.read(samples)
        assert values(samples, "leads_partition_owner") == {
            (LEADS, "1.0"): 1,
            (LEADS, "1.1"): 0,
            (LEADS, "1.2"): 0,
        }
        assert values(samples, "leads_consumers") == {(LEADS, SYNCER): 1}


class TestWantedReplicas:
    @pytest.mark.parametrize(
        ("backlogs", "wanted"),
        [((90, 0, 0), 1), ((SYNCER_WORK // 2,) * 3, 1.5), ((SYNCER_WORK * 2, 0, SYNCER_WORK), 2)],
    )
    async def test_of_syncers_follow_the_partitions(
        self, servers: Servers, redis: Redis, backlogs: tuple[int, ...], wanted: float
    ) -> None:
        add = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'a', 'b') end"
        for name, number in zip(LEADS_DIVISION.last.names, backlogs, strict=True):
            await redis.eval(add, 1, name, str(number))
        assert values(await read(servers), "leads_wanted_replicas")["syncer",] == wanted

    @pytest.mark.parametrize("why", ["pause", "calls", "tokens"])
    async def test_of_summarizers_do_not_grow_while_calls_of_the_model_wait(
        self, servers: Servers, redis: Redis, why: str
    ) -> None:
        await add_events(redis, [summary_requested() for _ in range(30)])
        budget = MinuteBudget(
            redis,
            name="groq:model",
            account="account",
            calls=1 if why == "calls" else 100,
            tokens=15 if why == "tokens" else 0,
        )
        reserve = partial(budget.reserve, tokens=10, within=timedelta(minutes=5), background=False)
        await reserve()
        assert await self._summarizers(servers) == 3
        await (budget.pause(timedelta(minutes=1)) if why == "pause" else reserve())
        assert await self._summarizers(servers) == 1
        for name in ("one", "two"):
            await Group(redis, redis, stream=SUMMARIES, group=SUMMARIZER, consumer=name).ensure()
        assert await self._summarizers(servers) == 2

    async def _summarizers(self, servers: Servers) -> float:
        samples = await read(servers, concurrency=10)
        return values(samples, "leads_wanted_replicas")["summarizer",]


class TestWhatIsKept:
    async def test_dead_letters_are_counted_by_their_reasons(
        self, servers: Servers, database: Database
    ) -> None:
        store = DeadLetterRepository(database)
        for number, reason in enumerate(("attempts", "attempts", "file-gone")):
            await store.add_letter(
                DeadLetter(
                    group=SYNCER,
                    event_id=str(number),
                    stream=IMPORTS,
                    entry_id="1-1",
                    type="import-requested",
                    reason=reason,
                    error="odd",
                    attempts=1,
                    fields={},
                )
            )
        letters = values(await read(servers), "leads_dead_letters")
        assert letters[IMPORTS, SYNCER, "attempts"] == 2
        assert letters[IMPORTS, SYNCER, "file-gone"] == 1
        assert letters[LEADS, SYNCER, "crash"] == 0  # a first one is a growth

    async def test_operations_and_jobs(
        self, servers: Servers, database: Database, redis: Redis
    ) -> None:
        runs = SyncRunRepository(database)
        done, going_on = uuid4(), uuid4()
        for run in (done, going_on):
            await runs.begin(run, requested_by="schedule")
        await runs.finish(done, counted_within=timedelta(seconds=1))
        await redis.xadd(IMPORTS, {"a": "b"})
        async with AdminLog(database).recording("backup", actor="x", detail={}) as action:
            action.affected = 1
        async with AdminLog(database).recording("backup", actor="x", detail={}):
            pass  # does not come to its end
        samples = await read(servers)
        assert values(samples, "leads_operations_open") == {
            ("import",): 1,
            ("summary",): 0,
            ("sync",): 1,
        }
        assert 0 < values(samples, "leads_operation_oldest_seconds")["sync",] < 60
        last = values(samples, "leads_last_success_timestamp_seconds")
        assert last == {
            ("sync",): pytest.approx(time.time(), abs=60),
            ("backup",): pytest.approx(time.time(), abs=60),
        }


class TestServers:
    @pytest.mark.parametrize(
        ("state", "writable"),
        [
            (states.replica, {"redis": 0, "postgres": 1}),
            (states.out_of_memory, {"redis": 0, "postgres": 1}),
            (states.read_only, {"redis": 1, "postgres": 0}),
            (states.full_disk, {"redis": 1, "postgres": 0}),
        ],
        ids=lambda value: getattr(value, "__name__", None),
    )
    async def test_say_whether_they_take_writes(
        self, servers: Servers, state: State, writable: Mapping[str, float]
    ) -> None:
        async with state(servers):
            found = values(await read(servers), "leads_server_writable")
            assert found == {(name,): value for name, value in writable.items()}
        assert set(values(await read(servers), "leads_server_writable").values()) == {1}

    async def test_of_an_older_schema_nobody_knows_whether_it_takes_writes(
        self, servers: Servers
    ) -> None:
        async with states.older_schema(servers):
            samples = await read(servers)
        assert values(samples, "leads_schema_pending") == {(): 1}
        assert values(samples, "leads_server_writable") == {("redis",): 1}

    async def test_are_measured(self, servers: Servers) -> None:
        await servers.redis.config_set("maxmemory", 1 << 40)
        try:
            samples = await read(servers)
        finally:
            await servers.redis.config_set("maxmemory", 0)
        assert 0 < values(samples, "leads_redis_memory_ratio")["redis",] < 0.1
        assert 0 < values(samples, "leads_postgres_connections_ratio")[()] < 1
        assert values(samples, "leads_schema_pending") == {(): 0}
        assert values(samples, "leads_postgres_lock_wait_seconds") == {(): 0}
        skews = values(samples, "leads_clock_skew_seconds")
        assert skews == {
            ("redis",): pytest.approx(0, abs=1),
            ("postgres",): pytest.approx(0, abs=1),
        }
        assert ("redis",) not in values(await read(servers), "leads_redis_memory_ratio")

    async def test_locks_are_as_old_as_their_transaction(self, servers: Servers) -> None:
        async with states.locked(servers), servers.database.connection() as connection:
            await connection.execute("SELECT pg_sleep(0.2)")
            samples = await read(servers)
        assert 0.2 < values(samples, "leads_postgres_lock_wait_seconds")[()] < 60


class TestDoctor:
    async def test_findings_are_counted_by_kind(
        self,
        servers: Servers,
        postgres_settings: PostgresSettings,
        streams_settings: StreamsSettings,
    ) -> None:
        settings = DoctorSettings(
            streams=streams_settings,
            postgres=postgres_settings,
            replica=ReplicaSettings(),
            project=None,
        )
        doctor = Doctor(servers.redis, servers.database, settings)
        source, samples = DoctorSource(doctor), Samples()
        await Troubles(servers.redis).tell("syncer:here:1", LEADS, ["odd"], ["also odd"])
        async with states.orphaned_group(servers), states.held_key(servers):
            await source.read(samples)
        found = values(samples, "leads_doctor_findings")
        assert found["orphaned groups", "warning"] == 1
        assert (found["troubles", "warning"], found["troubles", "failure"]) == (1, 1)
        assert (found["held events", "warning"], found["held events", "failure"]) == (1, 0)
        assert found["postgres writes", "failure"] == 0
        assert not [check for check, _ in found if ":here:" in check or "{" in check]


@contextlib.asynccontextmanager
async def reading(settings: ExporterSettings) -> AsyncGenerator[tuple[Readings, CollectorRegistry]]:
    async with open_sources(settings) as sources:
        readings = Readings(sources, outages=Outages())
        registry = CollectorRegistry()
        registry.register(readings)
        yield readings, registry


async def read_all(readings: Readings) -> None:
    for name in OF:
        await readings.read(name)


def exported_of(registry: CollectorRegistry) -> set[str]:
    """Return the names of what is exported, those of servers with the server's."""
    return {
        " ".join(filter(None, (sample.name, sample.labels.get("server"))))
        for metric in registry.collect()
        for sample in metric.samples
    }


def up(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.labels["source"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "leads_exporter_up" and sample.labels["source"] != "doctor"
    }


OF = {
    "redis": {"leads_backlog_unknown", "leads_stream_bytes", "leads_wanted_replicas"},
    "postgres": {"leads_dead_letters", "leads_partition_owner", "leads_schema_pending"},
    "cache": {"leads_clock_skew_seconds cache"},
}


@pytest.mark.parametrize("break_link", [TcpProxy.reset, TcpProxy.swallow])
@pytest.mark.parametrize("away", list(OF))
async def test_what_cannot_be_read_vanishes_and_comes_back(
    away: str,
    break_link: Callable[[TcpProxy], None],
    servers: Servers,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> None:
    assert servers
    postgres, redis = URL(postgres_settings.dsn), URL(streams_settings.url)
    assert postgres.port is not None
    assert redis.port is not None
    async with (
        TcpProxy(redis.port) as redis_link,
        TcpProxy(postgres.port) as postgres_link,
        TcpProxy(redis.port) as cache_link,
    ):
        settings = ExporterSettings(
            replica=ReplicaSettings(),
            postgres=PostgresSettings(
                supabase_connection_string=SecretStr(str(postgres.with_port(postgres_link.port))),
                postgres_timeout=SOON,
            ),
            streams=StreamsSettings(
                redis_url=SecretStr(str(redis.with_port(redis_link.port))), redis_timeout=SOON
            ),
            cache=CacheSettings(
                cache_redis_url=SecretStr(str(redis.with_port(cache_link.port))), cache_timeout=SOON
            ),
            state=SharedStateSettings(),
            observability=ObservabilitySettings(),
        )
        link = {"redis": redis_link, "postgres": postgres_link, "cache": cache_link}[away]
        others = set[str]().union(*(names for source, names in OF.items() if source != away))
        async with reading(settings) as (readings, registry):
            assert up(registry) == dict.fromkeys(OF, 0)  # nothing was read yet
            await read_all(readings)
            assert up(registry) == dict.fromkeys(OF, 1)
            assert exported_of(registry) >= others | OF[away]

            break_link(link)
            with capture_logs() as logs:
                await read_all(readings)
                await read_all(readings)
            began = [line["dependency"] for line in logs if line["event"] == "outage.began"]
            assert began == [away]
            assert up(registry) == {**dict.fromkeys(OF, 1), away: 0}
            assert exported_of(registry) >= others
            assert not exported_of(registry) & OF[away]

            link.heal()
            await read_all(readings)
            assert up(registry) == dict.fromkeys(OF, 1)
            assert exported_of(registry) >= OF[away]


class Scripted:
    """A source that does what a test says."""

    name = "scripted"
    every = EVERY

    def __init__(self, *steps: Exception | None) -> None:
        self._steps = iter(steps)

    async def read(self, samples: Samples) -> None:
        samples[STREAM_BYTES]["a", "0"] = 7
        error = next(self._steps)
        if error is not None:
            raise error
        samples[STREAM_BYTES]["b", "0"] = 8


@pytest.mark.parametrize("error", [ValueError("a defect"), OSError("odd"), ZeroDivisionError()])
async def test_whatever_fails_in_the_middle_leaves_what_was_read_before(error: Exception) -> None:
    readings = Readings([Scripted(None, error)], outages=Outages())
    registry = CollectorRegistry()
    registry.register(readings)
    for streams in ({"a", "b"}, {"a"}):
        await readings.read("scripted")
        assert {
            sample.labels["stream"]
            for metric in registry.collect()
            for sample in metric.samples
            if sample.name == "leads_stream_bytes"
        } == streams


async def test_what_is_old_vanishes_though_nothing_failed() -> None:
    source = Scripted(None)
    source.every = timedelta(seconds=-5)  # so that what is read now is too old
    readings = Readings([source], outages=Outages())
    registry = CollectorRegistry()
    registry.register(readings)
    await readings.read("scripted")
    assert exported_of(registry) == {"leads_exporter_up"}
    assert up(registry) == {"scripted": 0}
    with pytest.raises(UnavailableError, match="scripted"):
        await readings.check()


async def test_runs_until_it_is_told_to_end(ops: Ops, servers: Servers) -> None:
    assert servers
    port = free_port()
    ops.environment |= {"HEALTH_PORT": str(port), "HEALTH_HOST": "127.0.0.1"}
    command = await ops.start("exporter")

    async def exports_all() -> bool:
        text = await asyncio.to_thread(fetch, port)
        return all(f'leads_exporter_up{{source="{name}"}} 1.0' in text for name in OF)

    await eventually(exports_all)
    command.send_signal(signal.SIGTERM)
    code, output, errors = await command.end()
    assert (code, errors) == (0, "")
    assert [orjson.loads(line)["event"] for line in output.splitlines()] == [
        "exporter.started",
        "exporter.stopped",
    ]


def fetch(port: int) -> str:
    with contextlib.suppress(OSError):
        body: bytes = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read()
        return body.decode()
    return ""


async def test_has_to_know_where_to_be_asked(ops: Ops) -> None:
    ended = await ops("exporter")
    assert ended.code == 2
    assert "HEALTH_PORT" in ended.stderr
