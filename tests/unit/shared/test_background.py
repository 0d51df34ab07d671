"""Loops: waits that grow, an end by a stop and none by an error; cancellations that get lost."""

import asyncio
import contextlib
import time
from datetime import timedelta
from functools import partial

import pytest
import redis
import structlog

from shared.background import Backoff, cancellation_kept, repeat
from shared.domain.errors import PermanentError, UnavailableError
from shared.observability.metrics import STARTED, until_next
from shared.observability.outages import Outages

SHORT, LONG = timedelta(milliseconds=1), timedelta(minutes=10)


async def test_the_first_round_comes_at_once() -> None:
    async for _ in Backoff(first=LONG, longest=LONG):
        break


async def test_rounds_are_bounded_and_the_last_is_followed_by_a_wait() -> None:
    number = 0
    began = time.monotonic()
    async for _ in Backoff(first=SHORT, longest=SHORT, rounds=3):
        number += 1
    assert number == 3
    assert time.monotonic() > began


async def test_a_stop_ends_the_wait_and_the_loop() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, stop.set)
    number = 0
    async with asyncio.timeout(5):
        async for _ in Backoff(first=LONG, longest=LONG, stop=stop):
            number += 1
    assert number == 1


@pytest.mark.parametrize("every", [None, SHORT])
async def test_no_error_ends_a_loop(every: timedelta | None) -> None:
    stop = asyncio.Event()
    errors: list[Exception] = [
        UnavailableError("away"),
        PermanentError("no", code="no"),
        redis.ResponseError("WRONGTYPE Operation against a key"),
        TypeError("nobody foresaw this"),
        TimeoutError(),
    ]
    left = list(errors)

    async def step() -> None:
        if left:
            raise left.pop(0)
        stop.set()

    with structlog.testing.capture_logs() as lines:
        async with asyncio.timeout(20):
            await repeat(step, outages=Outages(), activity="test", every=every, stop=stop)
    began = [line for line in lines if line["event"] == "outage.began"]
    assert [(line["dependency"], line["reason"]) for line in began] == [
        ("test", "UnavailableError: away"),
        ("test: ResponseError", "ResponseError"),
        ("test: TypeError", "TypeError"),
        ("test: TimeoutError", "TimeoutError"),
    ]
    assert [line["exc_info"] for line in began] == [None, *errors[2:4], None]


@pytest.mark.parametrize(
    ("now", "seconds"),
    [(100.0, 2.0), (100.5, 1.5), (101.9, 0.1), (101.99, 2.01), (102.001, 1.999), (0.0, 2.0)],
)
def test_loops_go_on_at_multiples_of_their_pause(now: float, seconds: float) -> None:
    pause = until_next(timedelta(seconds=2), now=now)
    assert pause.total_seconds() == pytest.approx(seconds)


async def test_loops_wake_a_process_together() -> None:
    steps: list[tuple[int, float]] = []
    stop = asyncio.Event()
    loop, every = asyncio.get_running_loop(), timedelta(milliseconds=100)

    async def step(number: int) -> None:
        steps.append((number, loop.time()))
        if len(steps) == 20:
            stop.set()

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        for number in range(3):
            do = partial(step, number)
            work = repeat(do, outages=Outages(), activity="test", every=every, stop=stop)
            tasks.create_task(work)
            await asyncio.sleep(0.03)
    rounds = [steps[first : first + 3] for first in range(len(steps) - 2)]
    spreads = [one[-1][1] - one[0][1] for one in rounds if len(dict(one)) == 3]
    assert min(spreads) < 0.01
    assert min((at - STARTED) % every.total_seconds() for _, at in steps) < 0.01


async def test_a_loop_pauses_before_each_step_and_ends_when_stopped() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, stop.set)
    done: list[None] = []

    async def step() -> None:
        done.append(None)

    async with asyncio.timeout(5):
        await repeat(step, outages=Outages(), activity="test", every=LONG, stop=stop)
    assert done == []


async def test_a_cancellation_that_a_library_loses_is_kept() -> None:
    async def lose_it() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    went_on = False

    async def work() -> None:
        nonlocal went_on
        with cancellation_kept():
            await lose_it()
        went_on = True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), went_on) == (True, False)


async def test_who_was_cancelled_before_may_clean_up() -> None:
    cleaned_up = False

    async def work() -> None:
        nonlocal cleaned_up
        try:
            await asyncio.Event().wait()
        finally:
            with cancellation_kept():
                await asyncio.sleep(0)
            cleaned_up = True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), cleaned_up) == (True, True)


async def test_a_time_limit_inside_the_block_is_no_cancellation() -> None:
    with cancellation_kept(), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
