"""I3: a timeout or a 5xx means unknown, and repeating the request under its key has one effect."""

import asyncio
import random
from typing import Any

import pytest
from pydantic import SecretStr

from shared.settings import PostgresSettings, StreamsSettings
from tests.faults.altered import altered_syncer, syncer_settings
from tests.faults.clients import Answer, Clients, clients_of
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.defects import ForgetsEvents
from tests.faults.scale import scaled
from tests.faults.system import POSTGRES, SYNCERS, VALKEY, System
from tests.support.builders import lead_body
from tests.support.eventually import eventually

LOST = scaled(20, 200)
CALLERS = 8
OFTEN = 0.3
PUBLICATION = r"XADD\r\n\$\d+\r\nstream:leads:"
COMMIT = "COMMIT"
DSN = "SUPABASE_CONNECTION_STRING"


async def check_answers_get_lost(system: System, clients: Clients, chance: random.Random) -> int:
    """Lose answers until enough are lost; fail unless each lead is made once and answered with.

    Returns how many leads were made.
    """
    tables = Tables(system.postgres.dsn)
    losers = {VALKEY: PUBLICATION, POSTGRES: COMMIT}
    begun = {name: system.links[name].lost_answers for name in losers}
    for name, request in losers.items():
        system.links[name].lose_answers(request, when=lambda: chance.random() < OFTEN)
    made: dict[str, Answer] = {}

    async def call() -> None:
        while any(system.links[name].lost_answers - begun[name] < LOST for name in losers):
            body: dict[str, Any] = lead_body()
            made[body["email"]] = await clients.create_surely(body)

    async with asyncio.TaskGroup() as tasks:
        for number in range(CALLERS):
            tasks.create_task(call(), name=f"caller {number}")

    async def stored() -> list[Any]:
        """Return these leads: what was answered 202 is stored a little later."""
        rows = await tables.rows("SELECT email, id::text FROM leads.lead")
        ours = [row for row in rows if row[0] in made]
        assert len(ours) == len(made), "leads were doubled or lost"
        return ours

    leads = dict(await eventually(stored))
    for email, answer in made.items():
        if answer.status == 201:
            assert answer.body["id"] == leads[email]
    return len(made)


async def test_lost_answers_double_nothing(
    system: System, chance: random.Random, figure: Figure
) -> None:
    async with clients_of(system, chance) as clients:
        leads = await check_answers_get_lost(system, clients, chance)
    figure(f"{leads:,} leads, {LOST}+ lost answers to COMMIT and to XADD each: 0 doubled")


async def test_control_without_a_table_of_events_a_repeat_is_refused(
    system: System, chance: random.Random, figure: Figure
) -> None:
    await system.stop(*SYNCERS)
    dsn, redis = (SecretStr(system.environment[name]) for name in (DSN, "REDIS_URL"))
    settings = syncer_settings(
        PostgresSettings(supabase_connection_string=dsn), StreamsSettings(redis_url=redis)
    )
    async with clients_of(system, chance) as clients, altered_syncer(settings, ForgetsEvents):
        with pytest.raises(ExceptionGroup) as failed:
            await check_answers_get_lost(system, clients, chance)
    assert "duplicate-lead" in repr(failed.value.exceptions[0])
    figure("a syncer that forgets events: a repeat is refused as a duplicate")
