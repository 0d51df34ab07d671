"""Waiting for what must come true, with a deadline instead of a fixed sleep."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

Value = TypeVar("Value")

# Where it comes true this costs nothing, and a process has taken 10 s to start on a busy machine.
LONGEST = timedelta(seconds=30)


async def eventually(
    probe: Callable[[], Awaitable[Value | None]], *, within: timedelta = LONGEST
) -> Value:
    """Call `probe` until it gives something true and return that.

    A failed assertion counts as not yet; the last one is raised when time is up.
    """
    give_up = time.monotonic() + within.total_seconds()
    while True:
        failure: AssertionError | None = None
        try:
            value = await probe()
            if value:
                return value
        except AssertionError as error:
            failure = error
        if time.monotonic() > give_up:
            raise failure or AssertionError(f"not true within {within.total_seconds():g} s")
        await asyncio.sleep(0.02)
