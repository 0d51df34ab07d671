"""What operators see of streams and servers is what is there."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from yarl import URL

from shared.events import catalog
from shared.events.partitions import Claim, Division, HeldEntry, Layout, Member
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from shared.streams.consuming.group import Group
from shared.streams.inspection import PAGE, Inspector
from shared.streams.ordering.layout import Divisions, seal
from shared.streams.publisher import add_events
from tests.conftest import LEADS_DIVISION
from tests.integration.ops.conftest import Apply, Ops, StartSyncer
from tests.support.builders import lead_created, summary_requested
from tests.support.partitions import show_position

NOWHERE = "postgresql://postgres:x@127.0.0.1:9/leads"


async def read_some(redis: Redis, number: int) -> None:
    """Deliver entries to a consumer that keeps them."""
    group = Group(redis, redis, stream=catalog.SUMMARIES, group=catalog.SUMMARIZER, consumer="slow")
    await group.ensure()
    await group.read(count=number, block=timedelta(milliseconds=10))


async def test_a_group_is_shown_with_what_it_has_yet_to_do(ops: Ops, redis: Redis) -> None:
    await add_events(redis, [summary_requested() for _ in range(10)])
    await read_some(redis, 4)
    [stream] = (await ops("streams", catalog.SUMMARIES, "--json")).json
    [group] = stream["groups"]
    assert (stream["length"], stream["added"]) == (10, 10)
    assert stream["memory"] > 0
    assert stream["first"] < stream["last"]
    assert (group["undelivered"], group["pending"], group["retries"]) == (6, 4, 0)
    assert group["oldest_pending"] >= 0
    assert [(one["name"], one["pending"]) for one in group["consumers"]] == [("slow", 4)]
    assert stream["partitions"] == []
    shown = (await ops("streams")).stdout
    assert "slow" in shown
    assert stream["last"] in shown


@pytest.mark.parametrize("stream", [catalog.LEADS, catalog.SUMMARIES])
async def test_the_rate_is_measured(redis: Redis, stream: str) -> None:
    make = lead_created if stream == catalog.LEADS else summary_requested
    await add_events(redis, [make()])
    inspector = Inspector(redis)
    over = timedelta(milliseconds=500)
    async with asyncio.TaskGroup() as tasks:
        sampled = tasks.create_task(inspector.sampled((stream,), over=over), name="sample")
        await asyncio.sleep(0.05)
        await add_events(redis, [make() for _ in range(20)])
    assert [state.per_second for state in sampled.result()] == [40]
    assert (await inspector.look(stream)).per_second is None


async def test_undelivered_entries_are_counted_where_redis_cannot_tell(redis: Redis) -> None:
    await add_events(redis, [summary_requested() for _ in range(10)])
    await read_some(redis, 3)
    entries = entries_of(await redis.xrange(catalog.SUMMARIES))
    await redis.xdel(catalog.SUMMARIES, entries[6].id)
    [info] = await redis.xinfo_groups(catalog.SUMMARIES)
    assert info["lag"] is None
    [group] = (await Inspector(redis).look(catalog.SUMMARIES)).groups
    assert (group.undelivered, group.lag) == (6, 9)


async def test_what_is_more_than_can_be_counted_is_unknown(redis: Redis) -> None:
    await add_events(redis, [summary_requested()])
    await read_some(redis, 1)
    await add_many(redis, catalog.SUMMARIES, number=PAGE + 5)
    few = Inspector(redis, page=PAGE // 100)
    [group] = (await few.look(catalog.SUMMARIES)).groups
    assert group.undelivered == PAGE + 5  # nothing was deleted: Redis can tell
    entries = entries_of(await redis.xrange(catalog.SUMMARIES, count=3))
    await redis.xdel(catalog.SUMMARIES, entries[2].id)
    [group] = (await few.look(catalog.SUMMARIES)).groups
    assert (group.undelivered, group.lag) == (None, None)
    [group] = (await Inspector(redis).look(catalog.SUMMARIES)).groups
    assert (group.undelivered, group.lag) == (PAGE + 4, PAGE + 5)


async def add_many(redis: Redis, stream: str, *, number: int) -> None:
    await redis.eval(
        f"for i = 1, {number} do redis.call('XADD', KEYS[1], '*', 'a', 'b') end", 1, stream
    )


class TestOrderedStream:
    async def test_is_one_however_many_partitions_it_has(self, ops: Ops, redis: Redis) -> None:
        layout = LEADS_DIVISION.last
        await add_events(redis, [lead_created() for _ in range(30)])
        lengths = [await redis.xlen(name) for name in layout.names]
        done = entries_of(await redis.xrange(layout.name(0)))[1].id
        await show_position(redis, stream=layout.name(0), group=catalog.SYNCER, position=done)
        [stream] = (await ops("streams", catalog.LEADS, "--json")).json
        [group] = stream["groups"]
        assert (stream["length"], stream["added"]) == (30, 30)
        assert (group["undelivered"], group["pending"], group["retries"]) == (28, 0, 0)
        assert group["last_delivered"] == done
        assert [(one["name"], one["lag"]) for one in stream["partitions"]] == [
            (layout.name(0), lengths[0] - 2),
            (layout.name(1), lengths[1]),
            (layout.name(2), lengths[2]),
        ]
        shown = (await ops("streams", "--json")).json
        assert [one["name"] for one in shown if one["partitions"]] == [catalog.LEADS]

    async def test_what_came_before_its_partitions_and_layouts_is_counted_with_it(
        self, redis: Redis
    ) -> None:
        await redis.xadd(catalog.LEADS, {"a": "b"})
        [old] = entries_of(await redis.xrange(catalog.LEADS))
        await redis.xgroup_create(catalog.LEADS, catalog.SYNCER, "0")
        await redis.xreadgroup(catalog.SYNCER, "slow", {catalog.LEADS: ">"})
        await seal(redis, catalog.LEADS)
        first, second = LEADS_DIVISION.last, Layout(catalog.LEADS, 2, 2)
        for name in (*first.names, *second.names):
            await redis.xadd(name, {"a": "b"})
        await Divisions(redis).publish(Division([first, second], is_open=True))
        state = await Inspector(redis).look(catalog.LEADS)
        [group] = state.groups
        assert (state.length, state.first) == (6, old.id)
        assert (group.undelivered, group.pending) == (5, 1)
        # Those of the first layout are shown since they are not done.
        assert [one.name for one in state.partitions] == [*first.names, *second.names]
        for name in first.names:
            await show_position(
                redis, stream=name, group=catalog.SYNCER, position="9999999999999-0"
            )
        state = await Inspector(redis).look(catalog.LEADS)
        assert [one.name for one in state.partitions] == second.names

    async def test_a_long_backlog_is_counted(self, redis: Redis) -> None:
        name = LEADS_DIVISION.last.name(0)
        await add_many(redis, name, number=2 * PAGE + 7)
        first, second = [entry.id for entry in entries_of(await redis.xrange(name, count=2))]
        await show_position(redis, stream=name, group=catalog.SYNCER, position=first)
        await redis.xdel(name, second)
        assert (await redis.xinfo_groups(name))[0]["lag"] is None
        [group] = (await Inspector(redis).look(catalog.LEADS)).groups
        assert group.undelivered == 2 * PAGE + 5

    async def test_owners_and_what_is_held_come_from_postgresql(
        self, ops: Ops, redis: Redis, store: PartitionRepository
    ) -> None:
        await add_events(redis, [lead_created()])
        member = Member(uuid4(), "syncer:here:1", "here", "1")
        claim = await claim_partition(store, member, number=1)
        with store.fenced([(claim, "7-1")]):
            await store.hold(claim, [held("7-0"), held("7-1")])
        [stream] = (await ops("streams", catalog.LEADS, "--json", "--partitions")).json
        [one] = [one for one in stream["partitions"] if one["owner"]]
        assert one == {
            "name": LEADS_DIVISION.last.name(1),
            "layout": 1,
            "number": 1,
            "owner": "syncer:here:1",
            "epoch": 1,
            "position": "7-1",
            "lag": one["lag"],
            "held": 2,
            "handled_per_second": None,
        }
        await show_position(redis, stream=one["name"], group=catalog.SYNCER, position="0-0")
        [stream] = (await ops("streams", catalog.LEADS, "--json")).json
        [group] = stream["groups"]
        assert (group["undelivered"], group["pending"], group["retries"]) == (1, 0, 2)
        # It has not beaten while it was watched.
        assert group["consumers"] == [{"name": "syncer:here:1", "idle": 1.0, "pending": 0}]
        shown = (await ops("streams", "--partitions")).stdout
        assert f"{one['name']}  syncer:here:1      1  7-1" in shown

    @pytest.mark.parametrize("address", [NOWHERE, ""])
    async def test_is_shown_with_redis_alone(self, ops: Ops, redis: Redis, address: str) -> None:
        await add_events(redis, [lead_created() for _ in range(3)])
        name = LEADS_DIVISION.last.name(0)
        await show_position(redis, stream=name, group=catalog.SYNCER, position="0-0")
        ops.environment["SUPABASE_CONNECTION_STRING"] = address
        [stream] = (await ops("streams", catalog.LEADS, "--json")).json
        [group] = stream["groups"]
        assert (stream["length"], group["undelivered"], group["retries"]) == (3, 3, None)
        assert {one["owner"] for one in stream["partitions"]} == {None}
        assert (await ops("streams")).code == 0
        ended = await ops("streams", "--partitions")
        assert ended.code == (1 if address else 2)
        assert "PostgreSQL" in ended.stderr or "SUPABASE_CONNECTION_STRING" in ended.stderr

    async def test_that_was_never_divided_is_a_stream_like_others(self, redis: Redis) -> None:
        await redis.flushdb()
        await redis.xadd(catalog.LEADS, {"a": "b"})
        state = await Inspector(redis).look(catalog.LEADS)
        assert (state.length, state.groups, state.partitions) == (1, (), ())


@pytest.fixture
async def store(database: Database) -> PartitionRepository:
    store = PartitionRepository(database)
    await store.divide(catalog.LEADS, partitions=LEADS_DIVISION.last.partitions, is_open=True)
    return store


async def claim_partition(store: PartitionRepository, member: Member, *, number: int) -> Claim:
    await store.survey(catalog.LEADS, beat=member)
    survey = await store.survey(catalog.LEADS)
    [row] = [row for row in survey.partitions if row.number == number]
    claim = Claim(catalog.LEADS, 1, number, member.token, row.epoch + 1)
    assert await store.claim(claim, row) is not None
    return claim


def held(entry_id: str) -> HeldEntry:
    return HeldEntry(
        entry_id=entry_id, key="a", attempt=2, wait=timedelta(seconds=9), fields={b"a": b"b"}
    )


async def test_the_doctor_finds_nothing_wrong_with_a_running_system(
    ops: Ops, syncer: StartSyncer, create: Apply
) -> None:
    async with syncer():
        await create(1)
        ended = await ops("doctor", "--json")
    assert ended.code == 0
    bad = {one["check"] for one in ended.json if one["severity"] != "ok"}
    # The test's servers are made to be fast, and no summarizer runs.
    assert bad <= {"redis persistence", "postgres durability", "stream:summaries summarizer"}


async def test_the_doctor_says_what_to_do(ops: Ops, redis: Redis) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        ended = await ops("doctor")
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    assert ended.code == 1
    assert "allkeys-lru" in ended.stdout
    assert "CONFIG SET maxmemory-policy noeviction" in ended.stdout
    assert "the group does not exist" in ended.stdout


async def test_the_doctor_notices_sessions_that_it_may_not_look_at(
    ops: Ops, database: Database
) -> None:
    async with database.connection() as connection:
        await connection.execute(
            """
            DO $$ BEGIN
                CREATE ROLE stranger LOGIN PASSWORD 'secret';
            EXCEPTION WHEN duplicate_object THEN END $$;
            GRANT USAGE ON SCHEMA leads TO stranger;
            GRANT SELECT ON ALL TABLES IN SCHEMA leads TO stranger;
            REVOKE pg_read_all_stats FROM stranger;
            """
        )
        dsn = URL(ops.environment["SUPABASE_CONNECTION_STRING"])
        ops.environment["SUPABASE_CONNECTION_STRING"] = str(
            dsn.with_user("stranger").with_password("secret")
        )
        assert await _sessions(ops) == "warning"
        await connection.execute("GRANT pg_read_all_stats TO stranger")
        assert await _sessions(ops) == "ok"


async def _sessions(ops: Ops) -> str:
    findings = (await ops("doctor", "--json")).json
    [severity] = [one["severity"] for one in findings if one["check"] == "postgres sessions"]
    return str(severity)


async def test_the_doctor_goes_on_when_a_server_is_away(ops: Ops) -> None:
    ops.environment["REDIS_URL"] = "redis://127.0.0.1:9"
    ops.environment |= {"SUPABASE_URI": "http://127.0.0.1:9", "SUPABASE_KEY": "sb_secret_x"}
    ended = await ops("doctor", "--json")
    findings = {one["check"]: one for one in ended.json}
    assert ended.code == 1
    assert findings["redis"]["severity"] == "failure"
    assert findings["migrations"]["severity"] == "ok"
    assert findings["auth"]["severity"] == "failure"
