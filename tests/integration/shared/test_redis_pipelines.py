"""Pipelines do what the library's own do, and leave no reply behind."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis as library
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from shared.redis_connections import LeanPipeline, open_redis
from shared.settings import StreamsSettings


def entries(pipeline: Pipeline) -> None:
    for number in range(3):
        pipeline.xadd("s", {"n": str(number)}, id=f"{number + 1}-0")
    pipeline.xrange("s")
    pipeline.xread({"s": "0"})


def values(pipeline: Pipeline) -> None:
    pipeline.set("a", "1", px=100_000)
    pipeline.mget(["a", "b"])
    pipeline.hset("h", mapping={"x": "1"})
    pipeline.hgetall("h")
    pipeline.expire("a", timedelta(minutes=1))


def scores(pipeline: Pipeline) -> None:
    pipeline.zadd("z", {"one": 1.5, "two": 2})
    pipeline.zrange("z", 0, -1, withscores=True)
    pipeline.smembers("none")
    pipeline.info("cluster")


def errors(pipeline: Pipeline) -> None:
    pipeline.set("text", "x")
    pipeline.xadd("text", {"a": "b"})
    pipeline.get("text")
    pipeline.execute_command("NONSENSE")


@pytest.mark.parametrize("queue", [entries, values, scores, errors])
async def test_a_pipeline_answers_as_the_library_s(
    queue: Callable[[Pipeline], None], redis: Redis, redis_url: str
) -> None:
    replies: list[list[str]] = []
    async with open_redis(StreamsSettings(redis_url=SecretStr(redis_url))) as ours:
        assert isinstance(ours.pipeline(), LeanPipeline)
        theirs = Pipeline(
            ours.connection_pool, ours.response_callbacks, transaction=False, shard_hint=None
        )
        for pipeline in (ours.pipeline(transaction=False), theirs):
            await redis.flushdb()
            queue(pipeline)
            replies.append([repr(one) for one in await pipeline.execute(raise_on_error=False)])
            assert not pipeline.command_stack
    assert replies[0] == replies[1]


async def test_an_error_is_raised_and_leaves_the_connection_in_order(
    redis_url: str, redis: Redis
) -> None:
    await redis.set("text", "x")
    async with open_redis(StreamsSettings(redis_url=SecretStr(redis_url))) as client:
        for _ in range(3):
            pipeline = client.pipeline(transaction=False)
            pipeline.get("text")
            pipeline.xadd("text", {"a": "b"})
            pipeline.get("text")
            with pytest.raises(library.ResponseError, match=r"# 2 .* of pipeline .*WRONGTYPE"):
                await pipeline.execute()
            assert await client.get("text") == b"x"


async def test_a_server_that_does_not_answer_is_given_up(redis_url: str, redis: Redis) -> None:
    settings = StreamsSettings(
        redis_url=SecretStr(redis_url), redis_timeout=timedelta(milliseconds=200)
    )
    async with open_redis(settings) as client:
        await client.get("a")
        await redis.client_pause(10_000, all=False)
        pipeline = client.pipeline(transaction=False)
        pipeline.get("a")
        pipeline.set("a", "1")
        try:
            with pytest.raises(library.TimeoutError):
                await pipeline.execute()
        finally:
            await redis.client_unpause()
        assert await client.echo("mine") == b"mine"


async def test_who_gives_up_leaves_no_reply_to_the_next(redis_url: str, redis: Redis) -> None:
    """A connection on which replies are still to come is not used again."""
    async with open_redis(StreamsSettings(redis_url=SecretStr(redis_url))) as client:
        await client.set("a", "first")
        await redis.client_pause(300)
        pipeline = client.pipeline(transaction=False)
        pipeline.set("a", "second")
        pipeline.get("a")
        waiting = asyncio.create_task(pipeline.execute())
        await asyncio.sleep(0)
        while not waiting.done():
            await asyncio.sleep(0.01)
            waiting.cancel()
        assert waiting.cancelled()
        assert await client.echo("mine") == b"mine"
