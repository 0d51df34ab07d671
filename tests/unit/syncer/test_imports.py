"""Which windows of a file are written side by side: none that may be about one lead."""

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from uuid import UUID, uuid4

import pytest

from services.syncer.imports import LANES, WINDOW, RowEnd, import_rows
from shared.domain.lead_file import ImportReport
from shared.events.lead_fields import GivenLead
from shared.events.outcome import OutcomeStatus
from shared.lead_files import Row

ONE, OTHER = uuid4(), uuid4()
PATIENCE = timedelta(seconds=15)


def row(
    number: int,
    *,
    email: str | None = None,
    external_id: UUID | None = None,
    lead_id: UUID | None = None,
) -> Row:
    """Return a good row; what it does not say is like that of no other row."""
    if external_id is None and lead_id is None:
        external_id = uuid4()
    lead = GivenLead(
        first_name="Ada",
        last_name="King",
        email=email or f"{number}@example.com",
        external_id=external_id,
    )
    return Row(number, lead, {}, lead_id=lead_id)


async def side_by_side(
    *rows: Row, wait: timedelta, had_by: Mapping[str, UUID] = MappingProxyType({})
) -> int:
    """Return how many of these rows, each the first of a window, are written at the same time.

    Each waits so long for all that can be. `had_by` says which lead has an e-mail address.
    """
    numbers = [number for number in range(len(rows) * WINDOW) if number % WINDOW]
    by_number = {one.number: one for one in rows} | {n: Row(n, None, {}) for n in numbers}
    under_way, most, all_at_once = 0, 0, asyncio.Event()

    async def write(good: Sequence[Row]) -> list[RowEnd | None]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == min(len(rows), LANES):
            all_at_once.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait.total_seconds()):
                await all_at_once.wait()
        under_way -= 1
        return [RowEnd(OutcomeStatus.UPDATED)] * len(good)

    async def holders(good: Sequence[Row]) -> set[UUID]:
        emails = [one.lead.email for one in good if one.lead is not None]
        return {had_by[email] for email in emails if email in had_by}

    in_order = iter([by_number[number] for number in sorted(by_number)])
    steps = import_rows(in_order, write, report=ImportReport(), until=math.inf, holders=holders)
    assert [step.position async for step in steps][-1] == len(rows) * WINDOW - 1
    return most


async def test_windows_about_other_leads_go_side_by_side() -> None:
    windows = [row(n * WINDOW) for n in range(LANES + 1)]
    assert await side_by_side(*windows, wait=PATIENCE) == LANES
    named = [row(n * WINDOW, lead_id=uuid4()) for n in range(2)]
    assert await side_by_side(*named, wait=PATIENCE) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (row(0, email="Ada@example.com"), row(WINDOW, email="ada@EXAMPLE.com")),
        (row(0, external_id=ONE), row(WINDOW, external_id=ONE)),
        (row(0, lead_id=ONE), row(WINDOW, lead_id=ONE)),
        # Nobody knows which lead has which externalId.
        (row(0, external_id=ONE), row(WINDOW, lead_id=OTHER)),
    ],
)
async def test_windows_about_one_lead_go_one_after_the_other(first: Row, second: Row) -> None:
    assert await side_by_side(first, second, wait=timedelta(milliseconds=200)) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (row(0, external_id=ONE), row(WINDOW, email="had@example.com")),
        (row(0, email="had@example.com"), row(WINDOW, external_id=ONE)),
        (row(0, lead_id=ONE), row(WINDOW, email="had@example.com", lead_id=OTHER)),
    ],
)
async def test_who_may_lose_an_address_and_who_takes_it_go_one_after_the_other(
    first: Row, second: Row
) -> None:
    wait, had_by = timedelta(milliseconds=200), {"had@example.com": ONE}
    assert await side_by_side(first, second, wait=wait, had_by=had_by) == 1
    other = {"had@example.com": uuid4()}
    assert await side_by_side(first, second, wait=PATIENCE, had_by=other) == 2


async def test_who_has_an_address_is_asked_after_the_windows_before_have_ended() -> None:
    """The one before gives it to the lead that another one, under way by then, is about."""
    ended: list[int] = []

    async def write(good: Sequence[Row]) -> list[RowEnd | None]:
        await asyncio.sleep(0.02)
        ended.append(good[0].number)
        return [RowEnd(OutcomeStatus.UPDATED)] * len(good)

    async def holders(good: Sequence[Row]) -> set[UUID]:
        if good[0].number == WINDOW:
            assert ended == [0]
        return set()

    pair = [row(0, email="had@example.com"), row(WINDOW, email="had@example.com")]
    rows = [pair[0], *(Row(n, None, {}) for n in range(1, WINDOW)), pair[1]]
    steps = import_rows(iter(rows), write, report=ImportReport(), until=math.inf, holders=holders)
    assert [step.position async for step in steps] == [WINDOW - 1, WINDOW]
