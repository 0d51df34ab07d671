"""What starts processes for tests leaves none behind."""

import asyncio
import contextlib
import os

import pytest

from tests.support.forked_process import start_process


@pytest.mark.parametrize("turns", range(8))
async def test_a_start_that_is_given_up_leaves_no_process(turns: int) -> None:
    reading, writing = os.pipe()
    serving = ("http.server", "--bind", "127.0.0.1", "0")
    start = asyncio.create_task(
        start_process(*serving, environment={}, stdout=writing, stderr=writing)
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    start.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        (await start).kill()
    os.close(writing)
    # It has an end when nobody is there to write any more.
    with os.fdopen(reading, "rb") as said:
        await asyncio.wait_for(asyncio.to_thread(said.read), 10)
