"""I11: a poison entry reaches the dead letters, alone, and the others flow."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import cast

import pytest
from redis.asyncio import Redis

from shared.events.data import LeadCreated
from shared.events.envelope import Event
from shared.settings import PostgresSettings, StreamsSettings
from shared.streams.publisher import add_events
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.forks import forks
from tests.faults.misfits import FAILING, KILLER, POISON, UNFIT
from tests.faults.scale import scaled
from tests.faults.streams import leads_drained
from tests.support.builders import lead_created, lead_fields

EVENTS = scaled(900, 20_000)
ONE_IN = 100
CHUNK = 40
PAUSE = 0.02
REPLICAS = 2
PATIENCE = timedelta(seconds=scaled(30, 400))
REASONS = {KILLER: "crash", UNFIT: "unfit", FAILING: "attempts"}


def some_poisoned(chance: random.Random) -> list[Event]:
    """Return events of which one in a hundred is poison, of every kind, anywhere."""
    bad = [POISON[number % len(POISON)] for number in range(EVENTS // ONE_IN)]
    names = bad + ["Ada"] * (EVENTS - len(bad))
    chance.shuffle(names)
    return [lead_created(lead_fields(first_name=name)) for name in names]


async def publish(redis: Redis, events: Sequence[Event]) -> None:
    """Publish bit by bit, so that poison of all ages is about at the same time."""
    for start in range(0, len(events), CHUNK):
        await add_events(redis, events[start : start + CHUNK])
        await asyncio.sleep(PAUSE)


async def check_isolation(tables: Tables, events: Sequence[Event]) -> None:
    """Fail unless every poison event is parked for its reason, and every other one applied."""
    names = {str(event.id): cast("LeadCreated", event.data).lead.first_name for event in events}
    poison = {key: REASONS[name] for key, name in names.items() if name in POISON}
    rows = await tables.rows("SELECT event_id, reason FROM leads.dead_letter")
    letters: Mapping[str, str] = dict(rows)
    innocents = letters.keys() - poison.keys()
    assert not innocents, f"{len(innocents)} innocent events were parked"
    assert letters == poison
    applied = {str(row[0]) for row in await tables.rows("SELECT id FROM leads.event")}
    assert applied == names.keys() - poison.keys()


async def test_poison_is_parked_alone(
    redis: Redis,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    chance: random.Random,
    figure: Figure,
) -> None:
    events, tables = some_poisoned(chance), Tables(postgres_settings.dsn)
    async with forks("deadly", postgres_settings, streams_settings, number=REPLICAS):
        await publish(redis, events)
        await leads_drained(redis, tables, within=PATIENCE)
    await check_isolation(tables, events)
    figure(f"{EVENTS:,} events, {EVENTS // ONE_IN} poison, a third deadly: all parked, 0 innocents")


async def test_control_counting_crashes_of_all_parks_innocents(
    redis: Redis,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    figure: Figure,
) -> None:
    names = [KILLER] + ["Ada"] * (CHUNK - 1)
    events = [lead_created(lead_fields(first_name=name)) for name in names]
    tables = Tables(postgres_settings.dsn)
    async with forks("naive", postgres_settings, streams_settings, number=1):
        await add_events(redis, events)
        await leads_drained(redis, tables)
    with pytest.raises(AssertionError, match="innocent events were parked") as failed:
        await check_isolation(tables, events)
    figure(f"a crash counted for all under way: {str(failed.value).splitlines()[0]}, for 1 killer")
