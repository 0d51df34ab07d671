"""What happens to leads, each one's changes strictly one after another, and whether it shows."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.background import Backoff
from shared.domain.errors import UnavailableError
from shared.events.envelope import Event, new_id
from tests.faults.database import Tables
from tests.support.builders import lead_deleted, lead_updated, lead_upserted

CHANGES = 4
DELETED_ONE_IN = 5
PAUSE = timedelta(milliseconds=100)

Publish = Callable[[Event], Awaitable[object]]

_APPLIED = """
    SELECT id, coalesce((detail ->> 'version')::int, 1) FROM leads.event ORDER BY position
"""
_CITIES = "SELECT external_id, city FROM leads.lead"


@dataclass(frozen=True, slots=True)
class History:
    """One lead's events in the order in which they are accepted, and its city in the end."""

    external_id: UUID
    events: Sequence[Event]
    city: str | None

    async def happen(self, publish: Publish, chance: random.Random, *, span: timedelta) -> None:
        """Publish one event after the other, each until it is accepted."""
        seconds = span.total_seconds()
        await asyncio.sleep(chance.uniform(0, seconds / 2))
        for event in self.events:
            await asyncio.sleep(chance.uniform(0, seconds / 2 / len(self.events)))
            await _publish_surely(event, publish)


async def _publish_surely(event: Event, publish: Publish) -> None:
    async for _ in Backoff(longest=PAUSE):
        with contextlib.suppress(UnavailableError):
            await publish(event)
            return


def history(
    chance: random.Random, *, mark: str | None = None, is_deleted: bool | None = None
) -> History:
    """Return a lead that is made by an upsert, changed in two ways, and perhaps deleted.

    Every other event gets the mark, as its correlation id.
    """
    external_id = new_id()
    person: dict[str, Any] = {"email": f"{external_id}@example.com", "phone": "Y77 Q98-6303"}
    events = [lead_upserted(external_id, **person, city="1")]
    for number in range(2, CHANGES + 1):
        city = str(number)
        if chance.random() < 0.5:
            events.append(lead_upserted(external_id, **person, city=city))
        else:
            events.append(lead_updated(events[0].subject, city=city))
    if is_deleted is None:
        is_deleted = chance.randrange(DELETED_ONE_IN) == 0
    if is_deleted:
        events[-1] = lead_deleted(events[0].subject)
    return History(
        external_id,
        [
            _under(event, external_id, mark if number % 2 == 0 else None)
            for number, event in enumerate(events)
        ],
        None if is_deleted else str(CHANGES),
    )


def _under(event: Event, external_id: UUID, mark: str | None) -> Event:
    correlation_id = mark or event.correlation_id
    return replace(event, partition_key=str(external_id), correlation_id=correlation_id)


async def happen(
    histories: Sequence[History], publish: Publish, chance: random.Random, *, span: timedelta
) -> None:
    """Have all happen at the same time."""
    async with asyncio.TaskGroup() as tasks:
        for one in histories:
            tasks.create_task(one.happen(publish, chance, span=span), name="client")


async def check_order(tables: Tables, histories: Sequence[History], *, parked: int = 0) -> None:
    """Fail unless each event had one effect, in its lead's order, and the last one shows."""
    places: dict[UUID, tuple[int, int]] = {
        id_: (number, version) for number, (id_, version) in enumerate(await tables.rows(_APPLIED))
    }
    cities: dict[UUID, str] = dict(await tables.rows(_CITIES))
    lost = inverted = wrong = 0
    for one in histories:
        applied = [places[event.id] for event in one.events if event.id in places]
        versions = [version for _, version in applied]
        lost += len(one.events) - len(applied)
        inverted += applied != sorted(applied) or versions != sorted(set(versions))
        wrong += cities.get(one.external_id) != one.city
    assert (inverted, wrong) == (0, 0), f"{inverted} leads out of order, {wrong} wrong in the end"
    assert lost == parked, f"{lost} events had no effect"
    assert len(await tables.dead_letters()) == parked
