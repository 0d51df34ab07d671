"""What operators see of streams and servers is what is there."""

import asyncio
from datetime import timedelta

from redis.asyncio import Redis
from yarl import URL

from shared.events import catalog
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from shared.streams.consuming.group import Group
from shared.streams.inspection import COUNTED, Inspector
from shared.streams.publisher import add_events
from tests.integration.ops.conftest import Apply, Ops, StartSyncer
from tests.support.builders import lead_created


async def read_some(redis: Redis, number: int) -> None:
    """Deliver entries to a consumer that keeps them."""
    group = Group(redis, redis, stream=catalog.LEADS, group=catalog.SYNCER, consumer="slow")
    await group.ensure()
    await group.read(count=number, block=timedelta(milliseconds=10))


async def test_a_group_is_shown_with_what_it_has_yet_to_do(ops: Ops, redis: Redis) -> None:
    await add_events(redis, [lead_created() for _ in range(10)])
    await read_some(redis, 4)
    [stream] = (await ops("streams", catalog.LEADS, "--json")).json
    [group] = stream["groups"]
    assert (stream["length"], stream["added"]) == (10, 10)
    assert stream["memory"] > 0
    assert stream["first"] < stream["last"]
    assert (group["undelivered"], group["pending"], group["retries"]) == (6, 4, 0)
    assert group["oldest_pending"] >= 0
    assert [(one["name"], one["pending"]) for one in group["consumers"]] == [("slow", 4)]
    shown = (await ops("streams")).stdout
    assert "slow" in shown
    assert stream["last"] in shown


async def test_the_rate_is_measured(redis: Redis) -> None:
    await add_events(redis, [lead_created()])
    inspector = Inspector(redis)
    over = timedelta(milliseconds=500)
    async with asyncio.TaskGroup() as tasks:
        sampled = tasks.create_task(inspector.sampled((catalog.LEADS,), over=over), name="sample")
        await asyncio.sleep(0.05)
        await add_events(redis, [lead_created() for _ in range(20)])
    assert [state.per_second for state in sampled.result()] == [40]
    assert (await inspector.look(catalog.LEADS)).per_second is None


async def test_undelivered_entries_are_counted_where_redis_cannot_tell(redis: Redis) -> None:
    await add_events(redis, [lead_created() for _ in range(10)])
    await read_some(redis, 3)
    entries = entries_of(await redis.xrange(catalog.LEADS))
    await redis.xdel(catalog.LEADS, entries[6].id)
    [info] = await redis.xinfo_groups(catalog.LEADS)
    assert info["lag"] is None
    [group] = (await Inspector(redis).look(catalog.LEADS)).groups
    assert (group.undelivered, group.lag) == (6, 9)


async def test_what_cannot_be_counted_is_unknown(redis: Redis) -> None:
    await read_some(redis, 1)
    await redis.eval(
        f"for i = 1, {COUNTED + 5} do redis.call('XADD', KEYS[1], '*', 'a', 'b') end",
        1,
        catalog.LEADS,
    )
    [group] = (await Inspector(redis).look(catalog.LEADS)).groups
    assert group.undelivered == COUNTED + 5  # nothing was deleted: Redis can tell
    entries = entries_of(await redis.xrange(catalog.LEADS, count=3))
    await redis.xdel(catalog.LEADS, entries[2].id)
    [group] = (await Inspector(redis).look(catalog.LEADS)).groups
    assert (group.undelivered, group.lag) == (None, None)


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
    ended = await ops("doctor", "--json")
    findings = {one["check"]: one for one in ended.json}
    assert ended.code == 1
    assert findings["redis"]["severity"] == "failure"
    assert findings["migrations"]["severity"] == "ok"
