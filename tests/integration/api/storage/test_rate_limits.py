"""A limit holds across processes, and most calls are counted without Redis."""

import asyncio
from datetime import timedelta

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from yarl import URL

from services.api.storage.rate_limits import Limit, RateLimits
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy

HUNDRED = Limit("test", 100, timedelta(minutes=1))


async def test_several_processes_share_one_limit(redis: Redis) -> None:
    processes = [RateLimits(redis, HUNDRED) for _ in range(4)]
    answers = await asyncio.gather(*(processes[number % 4].spend("ada") for number in range(400)))
    allowed = sum(is_allowed for is_allowed, _ in answers)
    assert allowed <= 100
    assert allowed > 80  # at most a lease per process may be lost


async def test_one_process_reaches_the_limit_exactly_and_says_how_long_to_wait(
    redis: Redis,
) -> None:
    limits = RateLimits(redis, HUNDRED)
    answers = [await limits.spend("ada") for _ in range(101)]
    assert [is_allowed for is_allowed, _ in answers] == [True] * 100 + [False]
    standing = answers[-1][1]
    assert standing.remaining == 0
    assert 55 < standing.seconds_left() <= 60


async def test_callers_do_not_share_a_limit(redis: Redis) -> None:
    limits = RateLimits(redis, Limit("test", 1, timedelta(minutes=1)))
    assert (await limits.spend("ada"))[0]
    assert (await limits.spend("grace"))[0]
    assert not (await limits.spend("ada"))[0]


async def test_leased_calls_are_counted_here(redis: Redis) -> None:
    limits = RateLimits(redis, HUNDRED)
    assert limits.spend_leased("ada") is None
    await limits.spend("ada")
    remaining = [usage.remaining for _ in range(4) if (usage := limits.spend_leased("ada"))]
    assert remaining == [98, 97, 96, 95]
    assert limits.spend_leased("ada") is None


async def test_a_new_window_is_a_new_start(redis: Redis) -> None:
    limits = RateLimits(redis, Limit("test", 1, timedelta(milliseconds=200)))
    assert (await limits.spend("ada"))[0]

    async def allowed() -> bool:
        return (await limits.spend("ada"))[0]

    assert not await allowed()
    await eventually(allowed)


async def test_a_callers_window_can_be_reset(redis: Redis) -> None:
    limits = RateLimits(redis, Limit("test", 1, timedelta(minutes=1)))
    await limits.spend("ada")
    await limits.reset("ada")
    assert (await limits.spend("ada"))[0]


@pytest.mark.parametrize("calls", [5])
async def test_without_redis_a_process_counts_for_itself(calls: int) -> None:
    nowhere = StreamsSettings(redis_url=SecretStr("redis://127.0.0.1:9/0"))
    async with open_redis(nowhere) as redis:
        limits = RateLimits(redis, Limit("test", calls, timedelta(minutes=1)))
        answers = [(await limits.spend("ada"))[0] for _ in range(calls + 1)]
    assert answers == [True] * calls + [False]


async def test_an_outage_within_a_window_takes_no_calls_away(
    redis_url: str, link: TcpProxy
) -> None:
    address = SecretStr(str(URL(redis_url).with_port(link.port)))
    async with open_redis(StreamsSettings(redis_url=address)) as redis:
        limits = RateLimits(redis, Limit("test", 40, timedelta(minutes=1)))
        assert (await limits.spend("ada"))[0]
        link.reset()
        answers = [(await limits.spend("ada"))[0] for _ in range(40)]
    assert answers == [True] * 39 + [False]
