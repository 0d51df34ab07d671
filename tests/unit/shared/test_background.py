"""Backing off: longer waits, and an end when the process stops."""

import asyncio
import time
from datetime import timedelta

from shared.background import Backoff

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
