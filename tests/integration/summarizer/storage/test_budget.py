"""The budget that all replicas share, and a user's daily quota."""

import asyncio
from datetime import date, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from services.summarizer.storage.budget import DailyQuota, MinuteBudget
from services.summarizer.upstream import Reservation
from shared.domain.errors import UnavailableError
from shared.events.envelope import new_id
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.model_pauses import ModelPauses

# So long that none ends while a test runs: where time has to pass, the calls are made older.
WINDOW = timedelta(minutes=1)
MILLISECOND = timedelta(milliseconds=1)
NO_WAIT = timedelta(0)
TODAY, TOMORROW = date(2026, 11, 24), date(2026, 11, 25)


def budget_of(
    redis: Redis, *, calls: int = 0, tokens: int = 0, account: str = "ours"
) -> MinuteBudget:
    return MinuteBudget(
        redis, name="tests", account=account, calls=calls, tokens=tokens, window=WINDOW
    )


async def reserve(
    budget: MinuteBudget, *, tokens: int = 10, within: timedelta = NO_WAIT, background: bool = False
) -> Reservation | timedelta:
    return await budget.reserve(tokens=tokens, within=within, background=background)


async def times_of(redis: Redis) -> list[timedelta]:
    """Return from when on the calls that are reserved may be made, by the clock of Redis."""
    [key] = await redis.keys("budget:*")
    calls: Any = await redis.zrange(key, 0, -1, withscores=True)
    return [at * MILLISECOND for _, at in calls]


async def test_calls_are_limited_across_replicas(redis: Redis) -> None:
    budgets = [budget_of(redis, calls=5) for _ in range(3)]
    reserved = [await reserve(budget) for budget in budgets * 3]
    granted = [one for one in reserved if isinstance(one, Reservation)]
    refused = [one for one in reserved if isinstance(one, timedelta)]
    assert (len(granted), len(refused)) == (5, 4)
    assert all(NO_WAIT < wait <= WINDOW for wait in refused)


async def test_tokens_are_limited_and_settled(redis: Redis) -> None:
    budget = budget_of(redis, tokens=100)
    first = await reserve(budget, tokens=80)
    assert isinstance(first, Reservation)
    assert isinstance(await reserve(budget, tokens=30), timedelta)
    await budget.settle(first, tokens=20)
    assert isinstance(await reserve(budget, tokens=80), Reservation)
    assert isinstance(await reserve(budget, tokens=1), timedelta)


async def test_a_days_pause_is_over_with_another_key_or_when_it_is_lifted(redis: Redis) -> None:
    day = timedelta(days=1)
    budget = budget_of(redis, calls=100)
    await budget.pause(day)
    for replica in (budget, budget_of(redis, calls=100)):
        assert isinstance(await reserve(replica), timedelta)
    assert isinstance(await reserve(budget_of(redis, calls=100, account="new")), Reservation)
    [lifted] = await ModelPauses(redis).lift()
    assert lifted.name == "tests"
    assert day - timedelta(minutes=1) < lifted.left <= day
    assert isinstance(await reserve(budget), Reservation)
    assert await ModelPauses(redis).lift() == []


async def test_call_larger_than_the_budget_gets_all_of_it(redis: Redis) -> None:
    budget = budget_of(redis, tokens=100)
    assert isinstance(await reserve(budget, tokens=1_000), Reservation)
    assert isinstance(await reserve(budget, tokens=1), timedelta)


async def test_first_come_are_first_served_and_no_window_holds_too_many(redis: Redis) -> None:
    budgets = [budget_of(redis, calls=10), budget_of(redis, calls=10)]
    waits: list[timedelta] = []
    for number in range(35):
        reservation = await reserve(budgets[number % 2], within=WINDOW * 10)
        assert isinstance(reservation, Reservation)
        waits.append(reservation.wait)
    assert waits[:10] == [NO_WAIT] * 10
    due = await times_of(redis)
    # Each call may be made a window after the tenth before it, and no later.
    spans = {later - earlier for earlier, later in zip(due, due[10:], strict=False)}
    assert (len(due), spans) == (35, {WINDOW})


async def test_small_call_does_not_overtake_a_large_one_that_waits(redis: Redis) -> None:
    budget = budget_of(redis, tokens=100)
    await reserve(budget, tokens=60)
    large = await reserve(budget, tokens=60, within=WINDOW)
    small = await reserve(budget, tokens=10, within=WINDOW)
    assert isinstance(large, Reservation)
    assert isinstance(small, Reservation)
    first, second, third = await times_of(redis)
    assert second - first == WINDOW
    assert third >= second


async def test_room_that_comes_back_lets_nobody_overtake(redis: Redis) -> None:
    """The call before took less than it had reserved; who waits for it keeps its time."""
    budget = budget_of(redis, tokens=100)
    before = await reserve(budget, tokens=60)
    assert isinstance(before, Reservation)
    assert isinstance(await reserve(budget, tokens=60, within=WINDOW), Reservation)
    await budget.settle(before, tokens=10)
    assert isinstance(await reserve(budget, tokens=10, within=WINDOW), Reservation)
    first, second, third = await times_of(redis)
    assert (second - first, third) == (WINDOW, second)


async def test_budget_comes_back_with_time(redis: Redis) -> None:
    budget = budget_of(redis, calls=1)
    assert isinstance(await reserve(budget), Reservation)
    wait = await reserve(budget)
    assert isinstance(wait, timedelta)
    assert wait > WINDOW / 2
    # As if the call had been made so much earlier.
    [key] = await redis.keys("budget:*")
    call: Any
    [call] = await redis.zrange(key, 0, -1)
    await redis.zincrby(key, -(wait - WINDOW / 2) / MILLISECOND, call)
    assert isinstance(await reserve(budget), timedelta)
    await redis.zincrby(key, -(WINDOW / 2) / MILLISECOND, call)
    assert isinstance(await reserve(budget), Reservation)


async def test_background_work_leaves_half_to_people(redis: Redis) -> None:
    budget = budget_of(redis, calls=10)
    background = [await reserve(budget, background=True) for _ in range(7)]
    assert sum(isinstance(one, Reservation) for one in background) == 5
    people = [await reserve(budget) for _ in range(7)]
    assert sum(isinstance(one, Reservation) for one in people) == 5


async def test_pause_is_for_everybody_and_never_shortened(redis: Redis) -> None:
    one, other = budget_of(redis, calls=100), budget_of(redis, calls=100)
    await one.pause(timedelta(seconds=30))
    await one.pause(timedelta(seconds=1))
    wait = await reserve(other)
    assert isinstance(wait, timedelta)
    assert timedelta(seconds=29) < wait <= timedelta(seconds=30)


async def test_nothing_is_left_behind(redis: Redis) -> None:
    budget = budget_of(redis, calls=10)
    await reserve(budget)
    [key] = await redis.keys("budget:*")
    assert 0 < await redis.pttl(key) <= WINDOW / MILLISECOND


async def test_quota_is_per_user_and_day(redis: Redis) -> None:
    quota = DailyQuota(redis, name="tests", most=2)
    request = new_id()
    for _ in range(3):  # one request, delivered three times
        assert await quota.take("ada", request, day=TODAY)
    assert await quota.take("ada", new_id(), day=TODAY)
    assert not await quota.take("ada", new_id(), day=TODAY)
    assert await quota.take("ada", request, day=TODAY)
    assert await quota.take("grace", new_id(), day=TODAY)
    assert await quota.take("ada", new_id(), day=TOMORROW)
    await quota.give_back("ada", request, day=TODAY)
    assert await quota.take("ada", new_id(), day=TODAY)


async def test_quota_holds_against_many_at_once(redis: Redis) -> None:
    quota = DailyQuota(redis, name="tests", most=10)
    taken = await asyncio.gather(*(quota.take("ada", new_id(), day=TODAY) for _ in range(50)))
    assert sum(taken) == 10


async def test_no_limit_needs_no_redis() -> None:
    nowhere = StreamsSettings(redis_host="127.0.0.1", redis_port=1)
    async with open_redis(nowhere) as redis:
        assert await DailyQuota(redis, name="tests", most=0).take("ada", new_id(), day=TODAY)
        with pytest.raises(UnavailableError):
            await DailyQuota(redis, name="tests", most=1).take("ada", new_id(), day=TODAY)
        with pytest.raises(UnavailableError):
            await reserve(budget_of(redis, calls=1))
