"""I2: one lead per dedupe key, whatever is retried, replayed or raced by replicas."""

import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import psycopg
import pytest
from redis.asyncio import Redis

from shared.events import catalog
from shared.events.envelope import Event, new_id
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.streams.publisher import add_events
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.scale import scaled
from tests.faults.streams import leads_drained
from tests.support.builders import lead_created, lead_fields
from tests.support.syncer import running_syncer

KEYS = scaled(120, 500)
RACERS = 8
REPLICAS = 3


def racers_for(number: int) -> Iterator[Event]:
    """Yield events that agree in the e-mail, however it is spelt, or else in the externalId."""
    email, external_id = f"racer.{number}@example.com", new_id()
    for racer in range(RACERS):
        if number % 2:
            yield lead_created(lead_fields(external_id=external_id))
        else:
            yield lead_created(lead_fields(email=email.upper() if racer % 2 else email))


def race(chance: random.Random) -> Sequence[Event]:
    """Return every racer with a retry and a replay of itself, in any order."""
    racers = [event for number in range(KEYS) for event in racers_for(number)]
    replays = [replace(event, replay_id="race", only_group=catalog.SYNCER) for event in racers]
    events = racers + racers + replays
    chance.shuffle(events)
    return events


async def run_race(
    events: Sequence[Event], redis: Redis, postgres: PostgresSettings, streams: StreamsSettings
) -> None:
    """Have replicas consume the events."""
    await add_events(redis, events)
    async with AsyncExitStack() as stack:
        for _ in range(REPLICAS):
            await stack.enter_async_context(running_syncer(postgres, streams, CacheSettings()))
        await leads_drained(redis, Tables(postgres.dsn))


async def check_one_each(tables: Tables) -> None:
    """Fail unless each key has one lead, and all who asked for it know of it."""
    assert await tables.value("SELECT count(*) FROM leads.lead") == KEYS
    outcomes = await tables.rows("SELECT outcome, count(*) FROM leads.event GROUP BY 1")
    assert dict(outcomes) == {"created": KEYS, "duplicate": KEYS * (RACERS - 1)}
    assert await tables.dead_letters() == []


async def test_racers_make_one_lead_per_key(
    redis: Redis,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    chance: random.Random,
    figure: Figure,
) -> None:
    await run_race(race(chance), redis, postgres_settings, streams_settings)
    await check_one_each(Tables(postgres_settings.dsn))
    figure(f"{KEYS} keys x {RACERS} racers, retried, replayed, {REPLICAS} replicas: {KEYS} rows")


async def test_control_without_unique_keys_leads_are_doubled(
    redis: Redis,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    chance: random.Random,
    figure: Figure,
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_settings.dsn) as connection:
        await connection.execute(
            "ALTER TABLE leads.lead DROP CONSTRAINT lead_email_key_key,"
            " DROP CONSTRAINT lead_external_id_key"
        )
    await run_race(race(chance), redis, postgres_settings, streams_settings)
    tables = Tables(postgres_settings.dsn)
    with pytest.raises(AssertionError, match=f"== {KEYS}"):
        await check_one_each(tables)
    rows = await tables.value("SELECT count(*) FROM leads.lead")
    figure(f"a table without unique keys: {rows} rows for {KEYS} keys")
