"""Reads of a cluster's streams that go on by themselves, without a server."""

import asyncio
import gc
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis.typing import KeyT, StreamIdT

from shared.redis_cluster import ClusterRedis, Command
from tests.support.eventually import eventually

SECOND = timedelta(seconds=1)


class FakeCluster(ClusterRedis):
    """A cluster in which the stream `good` has entries, and others fail once they are told to."""

    def __init__(self) -> None:
        super().__init__(
            [("127.0.0.1", 9)],
            lambda _address: Redis(),
            is_outage=lambda _error: True,
            confirm_within=SECOND,
        )
        self.fails = asyncio.Event()
        self.failed = 0

    async def run(self, commands: Sequence[Command], *, is_safe: bool = False) -> list[Any]:
        del is_safe
        [(args, _)] = commands
        if "good" in args:
            return [{"good": []}]
        await self.fails.wait()
        self.failed += 1
        return [redis.ConnectionError(str(args))]

    async def read(self, *names: KeyT) -> Any:
        streams: dict[KeyT, StreamIdT] = dict.fromkeys(names, "0-0")
        return await self.xread(streams, block=1_000)


@pytest.mark.parametrize("dropped_by", ["other streams", "an end", "an end while it waits"])
async def test_a_read_that_is_dropped_reports_no_error(dropped_by: str) -> None:
    gc.collect()  # what other tests have left is theirs
    gc.freeze()  # and is not looked at again
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context))
    cluster = FakeCluster()
    try:
        assert await cluster.read("good", "bad", "worse") == {"good": []}
        if dropped_by != "an end while it waits":
            cluster.fails.set()

            async def has_failed() -> bool:
                return cluster.failed == 2

            await eventually(has_failed)
        if dropped_by == "other streams":
            assert await cluster.read("good", "another") == {"good": []}
    finally:
        await cluster.aclose()
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert reported == []


async def test_the_error_of_a_read_that_is_waited_for_is_raised() -> None:
    cluster = FakeCluster()
    cluster.fails.set()
    with pytest.raises(redis.ConnectionError):
        await cluster.read("bad", "worse")
    await cluster.aclose()
