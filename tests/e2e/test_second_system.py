"""A second system beside the first, with nothing set: its sync, and its end."""

import asyncio
import signal
from typing import Any

import pytest

from devstack.data_directory import scratch_directory
from shared.settings import PostgresSettings
from shared.storage.pool import Database, open_database
from tests.e2e.conftest import HASTE
from tests.support.api_client import ApiClient, open_client
from tests.support.eventually import eventually
from tests.support.stack import Stack, running_stack, traces_of
from tests.support.standin_control import StandInControl

RESULTS = 10  # the default of SYNC_RESULTS


@pytest.mark.long
async def test_two_systems_live_side_by_side_and_one_ends_without_a_trace(
    stack: Stack, client: ApiClient
) -> None:
    with scratch_directory() as directory:
        async with running_stack(directory / "data", SYNC_CRON="*/2 * * * * *", **HASTE) as second:
            async with open_client(second.url) as other:
                await they_share_nothing(client, other)
                await a_killed_syncer_costs_no_sync(second, other)
            assert await second.stop() == 0
            assert traces_of(second.data) == set()
        assert (await client.get("/health/ready")).status == 200
        assert traces_of(stack.data)


async def they_share_nothing(one: ApiClient, other: ApiClient) -> None:
    """Check that neither knows the other's leads and sessions."""
    mine, theirs = await asyncio.gather(one.create(), other.create())
    assert (await other.get(f"/leads/{mine['id']}")).status == 404
    assert (await one.get(f"/leads/{theirs['id']}")).status == 404
    assert (await other.with_token(one.token).get("/leads")).status == 401


async def a_killed_syncer_costs_no_sync(stack: Stack, client: ApiClient) -> None:
    """Kill -9 the syncer while the source is asked, and check what its syncs have brought."""
    source = StandInControl(stack.environment["RANDOMUSER_URL"].removesuffix("/api/"))
    async with source.misbehaving(delay=0.5):
        await source.is_asked()
        killed = stack.send("syncer", signal.SIGKILL)
    await stack.is_another("syncer", than=killed)
    settings = PostgresSettings.model_validate(
        {"supabase_connection_string": stack.environment["SUPABASE_CONNECTION_STRING"]}
    )
    async with open_database(settings) as database:

        async def runs_are_whole() -> int:
            runs = await sync_runs(database)
            assert len(runs) >= 2
            assert {run["state"] for run in runs} == {"succeeded"}, runs
            return sum(run["created"] for run in runs)

        created = await eventually(runs_are_whole)
        runs = await sync_runs(database)
    # Ten from each, the interrupted one too.
    assert [(run["fetched"], run["created"], run["invalid"]) for run in runs] == [
        (RESULTS, RESULTS, 0)
    ] * len(runs)
    leads = [lead for lead in await client.list_all() if lead["source"] == "randomuser"]
    assert len(leads) >= created
    assert len(leads) % RESULTS == 0


async def sync_runs(database: Database) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        return [dict(row) for row in await connection.fetch("SELECT * FROM leads.sync_report")]
