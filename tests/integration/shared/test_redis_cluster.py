"""A client of a cluster: where commands go, and what a move or a lost master makes of them."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
import redis
from redis.asyncio import Redis
from redis.typing import KeyT, StreamIdT

from shared.background import background
from shared.domain.errors import UnavailableError
from shared.events.catalog import LEADS
from shared.lua import Keys, lua_script
from shared.redis_cluster import NotReplicatedError
from shared.redis_connections import hash_tag, keep_safe, open_redis, ping, then, translated_errors
from shared.streams.codec import Entry, entries_of
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import check_writable, open_publisher
from tests.support.builders import lead_created
from tests.support.clusters import Cluster
from tests.support.eventually import eventually

FAIL_OVER = timedelta(seconds=30)
# One on each master.
KEYS = ("a", "b", "c")


@lua_script("""
for i, key in ipairs(keys) do redis.call('APPEND', key, i) end
return redis.call('GET', keys[1])
""")
def append_all(*, keys: Keys) -> bytes:
    """Append its place to each key; returns the first."""
    raise NotImplementedError


async def test_commands_go_to_their_nodes(cluster_client: Redis) -> None:
    for key in KEYS:
        await cluster_client.set(key, f"{key}'s")
    async with cluster_client.pipeline(transaction=False) as pipeline:
        for key in KEYS:
            pipeline.get(key)
            pipeline.append(key, " value")
        replies = await pipeline.execute()
    assert replies == [b"a's", 9, b"b's", 9, b"c's", 9]
    await ping(cluster_client)


async def test_what_is_tagged_alike_is_written_at_once(cluster_client: Redis) -> None:
    names = [f"{place}:{hash_tag(cluster_client, 'one')}" for place in KEYS]
    for _ in range(2):  # by its hash, then as it is known
        assert await append_all(cluster_client, keys=names)
    async with cluster_client.pipeline(transaction=True) as pipeline:
        for name in names:
            pipeline.get(name)
        append_all.queue(pipeline, keys=names)
        replies = await pipeline.execute()
    assert replies == [b"11", b"22", b"33", b"111"]


async def a_script_on_two_slots(client: Redis) -> None:
    await append_all(client, keys=KEYS)


async def a_transaction_on_two_slots(client: Redis) -> None:
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.get("a")
        pipeline.get("b")
        await pipeline.execute()


async def a_wrong_type_in_a_transaction(client: Redis) -> None:
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.set("a", "no list")
        pipeline.rpush("a", "value")
        await pipeline.execute()


async def a_command_without_a_key(client: Redis) -> None:
    await client.time()


async def what_looks_like_a_key(client: Redis) -> None:
    await client.config_get("maxmemory")


async def a_pipeline_without_a_key(client: Redis) -> None:
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.get("a")
        pipeline.dbsize()
        await pipeline.execute()


@pytest.mark.parametrize(
    "mistake",
    [
        a_script_on_two_slots,
        a_transaction_on_two_slots,
        a_wrong_type_in_a_transaction,
        a_command_without_a_key,
        what_looks_like_a_key,
        a_pipeline_without_a_key,
    ],
)
async def test_mistakes_are_no_outages(
    mistake: Callable[[Redis], Awaitable[None]], cluster_client: Redis
) -> None:
    with pytest.raises(redis.RedisError), translated_errors():
        await mistake(cluster_client)


async def test_a_slot_that_moves_loses_no_command(cluster: Cluster, cluster_client: Redis) -> None:
    """Commands of all kinds, one after the other, while their slot goes to and fro."""
    names = [f"{hash_tag(cluster_client, 'moving')}:{number}" for number in range(25)]
    for name in names:
        await cluster_client.set(name, 0)
    seen: list[Sequence[int]] = []

    async def count() -> None:
        while True:
            one = [await cluster_client.incr(name) for name in names]
            async with cluster_client.pipeline(transaction=False) as pipeline:
                for name in names * 2:
                    pipeline.incr(name)
                many = await pipeline.execute()
            async with cluster_client.pipeline(transaction=True) as pipeline:
                pipeline.incr(names[0])
                pipeline.get(names[0])
                both = await pipeline.execute()
            seen.append([*one, *many, *both])

    async with background(count(), name="count"):
        for _ in range(3):
            await cluster.move_slot(names[0], pause=timedelta(milliseconds=150))
        number = len(seen)
        await eventually(lambda: _has_more(seen, number + 1))
    rounds = len(seen)
    assert rounds > 3
    values = [int(await cluster_client.get(name) or 0) for name in names]
    # The last round may have been cut short.
    assert all(rounds * 3 <= value <= rounds * 3 + 3 for value in values[1:])
    assert all(one == sorted(one) for one in ([row[0], row[25], row[50], row[75]] for row in seen))


async def test_reads_of_streams_on_all_nodes_wait_together(
    cluster: Cluster, cluster_client: Redis
) -> None:
    async with open_redis(cluster.settings, block=timedelta(seconds=5)) as reader:
        cursors: dict[KeyT, StreamIdT] = dict.fromkeys(KEYS, "0-0")

        async def read() -> dict[str, list[Entry]]:
            began = time.monotonic()
            reply = cast("dict[bytes, Any]", await reader.xread(cursors, count=2, block=2_000))
            found = {name.decode(): entries_of(entries) for name, entries in reply.items()}
            cursors.update({name: entries[-1].id for name, entries in found.items()})
            assert time.monotonic() - began < 2
            return found

        await cluster_client.xadd("b", {"number": 1})
        assert set(await read()) == {"b"}
        for key in KEYS:
            await cluster_client.xadd(key, {"number": 2})
        numbers: list[tuple[str, bytes]] = []
        while len(numbers) < 3:
            found = await read()
            numbers += [(key, one.fields[b"number"]) for key, all_ in found.items() for one in all_]
        assert sorted(numbers) == [("a", b"2"), ("b", b"2"), ("c", b"2")]
        assert not await reader.xread(cursors, count=2, block=20)


async def test_what_comes_then_waits_for_the_rest(cluster: Cluster, cluster_client: Redis) -> None:
    """As on one server, where the last command of a pipeline is carried out last."""
    await cluster.kill(await cluster.master_of("a"))
    async with cluster_client.pipeline(transaction=False) as pipeline:
        pipeline.set("a", "reply")
        then(pipeline)
        pipeline.set("b", "acknowledgement")
        with pytest.raises(UnavailableError), translated_errors():
            await pipeline.execute()
    assert await cluster_client.get("b") is None


async def test_what_no_dead_master_has_to_take_is_accepted(
    cluster: Cluster, cluster_client: Redis
) -> None:
    """Clients whose events go to other masters are not made to wait for a fail-over."""
    division = await Divisions(cluster_client).refresh(LEADS)  # one partition on each master
    events = [lead_created() for _ in range(30)]
    gone = {event.id for event in events if division.last.partition_of(event.key) == 1}
    async with open_publisher(cluster_client, Divisions(cluster_client)) as publisher:
        await publisher.publish_all([lead_created() for _ in range(30)])
        await cluster.kill(await cluster.master_of(division.last.name(1)))
        ends = await asyncio.gather(*map(publisher.publish, events), return_exceptions=True)
    refused = [event for event, end in zip(events, ends, strict=True) if not isinstance(end, str)]
    assert {event.id for event in refused} == gone
    assert all(isinstance(end, str | UnavailableError) for end in ends)


@pytest.mark.parametrize("key", KEYS)
async def test_each_master_has_to_take_writes(
    key: str, cluster: Cluster, cluster_client: Redis
) -> None:
    await check_writable(cluster_client)
    full = await cluster.master_of(key)
    await full.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(UnavailableError, match="maxmemory"):
            await check_writable(cluster_client)
    finally:
        await full.ask("CONFIG", "SET", "maxmemory", 0)


async def test_what_comes_then_follows_what_was_refused_for_what_it_was(
    cluster_client: Redis,
) -> None:
    await cluster_client.set("a", "no list")
    async with cluster_client.pipeline(transaction=False) as pipeline:
        pipeline.rpush("a", "reply")
        then(pipeline)
        pipeline.set("b", "acknowledgement")
        refused, set_ = await pipeline.execute(raise_on_error=False)
    assert (type(refused), set_) == (redis.ResponseError, True)


async def test_another_master_takes_over(cluster: Cluster, cluster_client: Redis) -> None:
    await cluster.kill(await cluster.master_of("a"))

    async def all_set() -> bool:
        with contextlib.suppress(UnavailableError), translated_errors():
            async with cluster_client.pipeline(transaction=False) as pipeline:
                for key in KEYS:
                    pipeline.set(key, b"")
                await pipeline.execute()
            await ping(cluster_client)
            return True
        return False

    await eventually(all_set, within=FAIL_OVER)


async def test_what_is_kept_safe_is_confirmed_by_a_replica(
    cluster: Cluster, cluster_client: Redis
) -> None:
    async def keep() -> None:
        async with cluster_client.pipeline(transaction=False) as pipeline:
            keep_safe(pipeline)
            pipeline.rpush("a", "value")
            await pipeline.execute()

    await keep()
    master = await cluster.master_of("a")
    await master.ask("ACL", "SETUSER", "default", "-wait")
    with pytest.raises(NotReplicatedError, match="no permissions"):
        await keep()
    await master.ask("ACL", "SETUSER", "default", "+wait")
    await cluster.kill(await cluster.replica_of("a"))
    with pytest.raises(NotReplicatedError):
        await keep()

    async def is_kept() -> bool:
        with contextlib.suppress(NotReplicatedError):
            await keep()
            return True
        return False

    # Without a replica there is none to wait for.
    await eventually(is_kept, within=FAIL_OVER)


async def _has_more(seen: Sequence[object], number: int) -> bool:
    return len(seen) > number
