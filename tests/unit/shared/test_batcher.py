"""Batches: what waits goes out together, and a failure is its batch's alone."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta

import pytest

from shared.background import background
from shared.batcher import Batcher, Slices, open_batcher
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


class _Batches:
    """Echoes, once `go` is set, and notes what came together."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.go = asyncio.Event()

    async def send(self, items: Sequence[int]) -> Sequence[int]:
        self.seen.append(list(items))
        await self.go.wait()
        return items


@contextlib.asynccontextmanager
async def _patient(
    batches: _Batches, *, patience: timedelta, clock: Callable[[], float] = time.monotonic
) -> AsyncGenerator[Batcher[int, int]]:
    """Run a batcher to which many have just come at the same time."""
    batcher = Batcher(batches.send, most=100, patience=patience, clock=clock)
    async with background(batcher.run(), name="tests"):
        first = batcher.submit(0)
        await asyncio.sleep(0)
        many = [batcher.submit(number) for number in range(1, 100)]
        batches.go.set()
        await asyncio.gather(first, *many)
        yield batcher


async def test_a_batch_waits_for_others_where_many_come() -> None:
    batches = _Batches()
    async with _patient(batches, patience=timedelta(seconds=0.2)) as batcher:
        one = batcher.submit(100)
        await asyncio.sleep(0.01)
        assert len(batches.seen) == 2
        other = batcher.submit(101)
        assert [await one, await other] == [100, 101]
    assert [len(batch) for batch in batches.seen] == [1, 99, 2]


async def test_a_full_batch_waits_for_nothing() -> None:
    batches = _Batches()
    async with asyncio.timeout(5), _patient(batches, patience=timedelta(minutes=1)) as batcher:
        assert len(await asyncio.gather(*map(batcher.submit, range(100)))) == 100


async def test_a_batch_waits_for_nothing_after_a_pause() -> None:
    now, batches = [0.0], _Batches()
    async with (
        asyncio.timeout(5),
        _patient(batches, patience=timedelta(seconds=30), clock=lambda: now[0]) as batcher,
    ):
        now[0] += 10_000
        assert await batcher.submit(100) == 100


async def test_a_sole_caller_never_waits() -> None:
    batches = _Batches()
    batches.go.set()
    batcher = Batcher(batches.send, patience=timedelta(minutes=1))
    async with asyncio.timeout(5), background(batcher.run(), name="tests"):
        assert [await batcher.submit(number) for number in range(200)] == list(range(200))


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
