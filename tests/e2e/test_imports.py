"""kill -9 of any one process in the middle of an import: the report stays exact, to the row."""

import asyncio
import signal
from typing import Any

import aiohttp
import pytest

from shared.storage.pool import Database
from tests.support.api_client import PATIENCE, Answer, ApiClient
from tests.support.eventually import eventually
from tests.support.lead_csv import csv_file, mixed_report, mixed_rows
from tests.support.stack import Stack

ROWS = 5_000
CSV = {"Content-Type": "text/csv"}
STORED = "SELECT count(*), count(DISTINCT email_key) FROM leads.lead WHERE email LIKE $1"


async def operation_of(client: ApiClient, accepted: Answer) -> dict[str, Any] | None:
    """Return the operation, or None while its status is unavailable."""
    try:
        answer = await client.get(accepted.headers["Location"])
    except aiohttp.ClientError:
        return None
    assert answer.status in {200, 503}, answer.body
    operation: dict[str, Any] = answer.json
    return operation if answer.status == 200 else None


async def rows_are_done(client: ApiClient, accepted: Answer, *, number: int) -> None:
    """Wait until so many rows have been seen to, and no more than the file has."""

    async def has_come_so_far() -> bool:
        operation = await operation_of(client, accepted) or {}
        return bool(operation.get("progress", {}).get("rows", 0) >= number)

    await eventually(has_come_so_far, within=PATIENCE)


async def end_of(client: ApiClient, accepted: Answer) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        operation = await operation_of(client, accepted)
        return None if operation is None or operation["status"] == "pending" else operation

    return await eventually(ended, within=PATIENCE * 2)


async def begin(client: ApiClient, name: str) -> Answer:
    rows = mixed_rows(ROWS, domain=f"{name}.example.com")
    accepted = await client.post("/leads/import", data=csv_file(rows), headers=CSV)
    assert accepted.status == 202, accepted.body
    return accepted


async def is_exact(
    name: str, client: ApiClient, database: Database, operation: dict[str, Any]
) -> None:
    """Check the report against the file, the table and the file of errors."""
    expected = mixed_report(ROWS)
    assert (operation["status"], operation["progress"]) == ("succeeded", expected), operation
    async with database.connection() as connection:
        row = await connection.fetchrow(STORED, f"%@{name}.example.com")
    assert row is not None
    assert tuple(row) == (expected["created"],) * 2
    errors = await client.get(operation["errorFile"])
    assert len(errors.body.splitlines()) == expected["invalid"] + expected["duplicate"]


OTHERS = [pytest.param(one, marks=pytest.mark.long) for one in ("api", "valkey", "postgres")]


@pytest.mark.parametrize("victim", ["syncer", *OTHERS])
async def test_an_import_outlives_any_process(
    victim: str, stack: Stack, client: ApiClient, stack_database: Database
) -> None:
    accepted = await begin(client, victim)
    await rows_are_done(client, accepted, number=1_000)
    killed = stack.send(victim, signal.SIGKILL)
    await stack.is_another(victim, than=killed)
    operation = await end_of(client, accepted)
    await is_exact(victim, client, stack_database, operation)


@pytest.mark.long
async def test_an_import_outlives_more_syncers_than_a_poisonous_event_may_kill(
    stack: Stack, client: ApiClient, stack_database: Database
) -> None:
    accepted = await begin(client, "often")
    for kills in range(1, 5):
        await rows_are_done(client, accepted, number=kills * 900)
        killed = stack.send("syncer", signal.SIGKILL)
        await stack.is_another("syncer", than=killed)
    operation = await end_of(client, accepted)
    await is_exact("often", client, stack_database, operation)


async def test_people_do_not_wait_for_imports(stack: Stack, client: ApiClient) -> None:
    assert stack.pid_of("syncer") is not None
    accepted = await begin(client, "busy")
    await rows_are_done(client, accepted, number=500)
    created = await asyncio.gather(*(client.create() for _ in range(10)))
    assert len(created) == 10  # each within the two seconds that a 201 may take
    await end_of(client, accepted)
