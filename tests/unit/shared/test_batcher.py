"""Batches: what waits goes out together, and a failure is its batch's alone."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest

from shared.batcher import Slices, open_batcher
from shared.domain.errors import UnavailableError


async def test_what_waits_is_sent_together() -> None:
    batches: list[list[int]] = []

    async def double(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        await asyncio.sleep(0)
        return [item * 2 for item in items]

    async with open_batcher(double, name="tests", most=3) as batcher:
        assert await asyncio.gather(*map(batcher.submit, range(5))) == [0, 2, 4, 6, 8]
    assert batches == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize("error", [UnavailableError("away"), TypeError("not callable")])
async def test_an_error_is_raised_to_its_batch_and_the_next_one_goes_out(error: Exception) -> None:
    async def refuse_one(items: Sequence[int]) -> Sequence[int]:
        if 1 in items:
            raise error
        return items

    async with open_batcher(refuse_one, name="tests", most=1) as batcher:
        refused, passed = batcher.submit(1), batcher.submit(2)
        with pytest.raises(type(error)):
            await refused
        assert await passed == 2
        assert await batcher.submit(3) == 3


async def test_an_item_may_fail_alone() -> None:
    async def refuse_odd(items: Sequence[int]) -> Sequence[int | Exception]:
        return [UnavailableError("away") if item % 2 else item for item in items]

    async with open_batcher(refuse_odd, name="tests") as batcher:
        results = await asyncio.gather(*map(batcher.submit, range(4)), return_exceptions=True)
    assert [str(result) for result in results] == ["0", "away", "2", "away"]


async def test_a_wrong_number_of_results_is_an_error_of_the_batch() -> None:
    async def lose_one(items: Sequence[int]) -> Sequence[int]:
        return items[1:]

    async with open_batcher(lose_one, name="tests") as batcher:
        with pytest.raises(ValueError, match="shorter"):
            await batcher.submit(1)


async def test_a_caller_that_waits_at_the_end_is_cancelled() -> None:
    async def hang(items: Sequence[int]) -> Sequence[int]:
        await asyncio.Event().wait()
        return items

    async with open_batcher(hang, name="tests") as batcher:
        under_way = batcher.submit(1)
        await asyncio.sleep(0)
    assert under_way.cancelled()


@pytest.mark.parametrize(
    ("aim", "size"),
    [(timedelta(0), 10), (timedelta(milliseconds=1), 10), (timedelta(hours=1), 100)],
)
def test_a_slice_takes_as_long_as_it_should(aim: timedelta, size: int) -> None:
    slices = Slices(least=10, most=100)
    assert slices.size(aim=aim) == 10
    with slices.timed(10):
        time.sleep(0.02)
    assert slices.size(aim=aim) == size


def test_slices_are_fitted_to_what_the_last_ones_took() -> None:
    slices = Slices(least=10, most=100)
    for seconds in (0, 0, 0.1):  # at least
        with slices.timed(10):
            time.sleep(seconds)
    assert slices.size(aim=timedelta(milliseconds=100)) < 30
