"""No personal data, password or token in any log line of any service, whatever goes wrong."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from redis.asyncio import Redis

from devstack.free_ports import free_port
from devstack.standins.groq import GroqSettings, create_app
from devstack.standins.serving import running
from services.api.settings import ApiSettings
from shared.storage.dead_letters import DeadLetterRepository, LetterSelection
from shared.storage.pool import Database
from shared.streams.codec import encode
from tests.support.api_process import environment_of
from tests.support.auth_project import running_project
from tests.support.builders import lead_body, lead_created, lead_fields
from tests.support.eventually import eventually
from tests.support.lead_csv import csv_file
from tests.support.lead_imports import CSV, IMPORT, NDJSON, begin, ended, keys_of_files
from tests.support.lead_table import refuse_defects
from tests.support.partitions import lead_streams
from tests.support.service_process import ServiceProcess, running_service
from tests.support.standin_control import StandInControl

CANARY = "canary"
CREDENTIALS = {"email": "canary.user@example.com", "password": "canary-password-1"}
LEAD = {
    "firstName": "Canary",
    "email": "canary.lead@example.com",
    "phone": "030 canary 77",
    "city": "Canaria",
}
KEY = "canary-operators-key"
# Columns that an import passes over: one by its mapping, one since only an export has it.
CSV_FILE = csv_file(
    [
        "Canary,Row,canary.row@example.com,Canaria,canary note,canary",
        "Canary,Invalid,canary@nowhere,Canaria" + "x" * 60 + ",canary note,canary",
        "Canary,Again,CANARY.row@example.com,Canaria,canary note,canary",
        "Canary,Known,canary.lead@example.com,Canaria,canary note,canary",
        "Canary,Defect,canary.defect@example.com,Canaria,canary note,canary",
        "Canary,canary.short@example.com",
    ],
    header="First Name,Last Name,Email,City,Notes,summary",
)
NDJSON_FILE = b"".join(
    line + b"\n"
    for line in (
        orjson.dumps(lead_body(**LEAD, externalId=None) | {"email": "canary.line@example.com"}),
        orjson.dumps(lead_body(**LEAD | {"email": "canary@nowhere", "city": ["Canaria"]})),
        orjson.dumps(lead_body(**LEAD | {"email": "canary.line@example.com"})),
        orjson.dumps(lead_body(**LEAD) | {"shoeSize": "canary"}),
        b'{"email": "canary.cut@example.com"',
    )
)
BROKEN_FILE = csv_file(['Canary,"Broken" canary,canary.broken@example.com,Canaria'])
KINDS = ("rows", "created", "duplicate", "invalid", "refused")
DEFECT_OF_READERS = """
    CREATE OR REPLACE FUNCTION leads.lead_json(lead leads.lead) RETURNS text
    RETURN (1 / (0 * lead.version))::text
"""
ARCHIVED = "SELECT event::text FROM leads.event WHERE type = 'import-requested'"


@dataclass(frozen=True, slots=True)
class System:
    """The three services, and a client of the API."""

    services: dict[str, ServiceProcess]
    client: httpx.AsyncClient
    groq: StandInControl

    def lines(self) -> list[tuple[str, str]]:
        return [(name, line) for name, one in self.services.items() for line in one.lines]


@pytest.fixture
async def system(api_settings: ApiSettings, tmp_path: Path) -> AsyncGenerator[System]:
    port = free_port()
    groq_settings = GroqSettings()
    async with AsyncExitStack() as stack:
        project = await stack.enter_async_context(running_project(tmp_path))
        groq = await stack.enter_async_context(running(create_app(groq_settings), groq_settings))
        settings = project.settings(api_settings)
        environment = environment_of(settings, port=port) | {
            "API_KEY": KEY,
            "LOG_LEVEL": "DEBUG",
            "CREATE_TIMEOUT": "20",
            "SYNC_ENABLED": "false",
            "STREAM_MAX_ATTEMPTS": "2",
            "STREAM_BLOCK": "0.2",
            "SUMMARY_PROVIDER": "groq",
            "GROQ_API_KEY": "canary-groq-key",
            "GROQ_BASE_URL": str(groq).rstrip("/"),
        }
        names = ("api", "syncer", "summarizer")
        opened = await asyncio.gather(
            *(
                stack.enter_async_context(running_service(f"services.{name}", environment))
                for name in names
            )
        )
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
        )
        yield System(dict(zip(names, opened, strict=True)), client, StandInControl(str(groq)))


async def signed_in(client: httpx.AsyncClient) -> dict[str, Any]:
    """Walk through an account's life; returns a session."""
    await client.post("/authentication/signup", json=CREDENTIALS)
    await client.post("/authentication/signup", json=CREDENTIALS)
    await client.post("/authentication/signup", json=CREDENTIALS | {"password": "c" * 80})
    await client.post("/authentication/login", json=CREDENTIALS | {"password": "canary-wrong"})
    await client.post("/authentication/refresh", json={"refresh_token": "canary-refresh"})
    await client.get("/leads", headers={"Authorization": "Bearer canary.canary.canary"})
    answer = await client.post("/authentication/login", json=CREDENTIALS)
    session: dict[str, Any] = answer.json()
    client.headers["Authorization"] = f"Bearer {session['access_token']}"
    return session


async def lead_of(client: httpx.AsyncClient) -> str:
    """Walk through what clients do with leads, rightly and wrongly; returns a lead's address."""
    created = await client.post("/leads", json=lead_body(**LEAD))
    assert created.status_code == 201, created.text
    address = created.headers["Location"]
    await client.post("/leads", json=lead_body(**LEAD))
    await client.post("/leads", json=lead_body(**LEAD, state="x" * 60, canary=1))
    await client.post("/leads", content=b'{"email": "canary', headers={"Content-Type": "text/x"})
    for path in ("/canary@example.com", "/leads/canary@example.com", "/leads?q=canary&x=canary"):
        await client.get(path)
    await client.get("/leads", params={"email": LEAD["email"]})
    await client.patch(address, json={"city": "Canaria del Sur"})
    await client.get(f"{address}/history")
    return str(address)


async def walk_through_imports(system: System, database: Database, redis: Redis) -> None:
    """Import good rows and rows of every bad kind: nothing that is sent or kept says whose."""
    client = system.client
    accepted = (
        (CSV_FILE, "map=Notes:&dryRun=true", CSV),
        (CSV_FILE, "map=Notes:", CSV),
        (NDJSON_FILE, "", NDJSON),
        (BROKEN_FILE, "", CSV),
    )
    operations = [
        await ended(client, await begin(client, content, query, **headers))
        for content, query, headers in accepted
    ]
    counts = [tuple(one["progress"][kind] for kind in KINDS) for one in operations]
    assert counts == [(6, 3, 1, 2, 0), (6, 1, 2, 2, 1), (5, 1, 1, 3, 0), (1, 0, 0, 1, 0)]
    errors = [await client.get(one["errorFile"]) for one in operations]
    assert [len(one.content.splitlines()) for one in errors] == [3, 5, 4, 1]
    async with database.connection() as connection:
        archived = await connection.fetch(ARCHIVED)
    assert len(archived) == len(operations)
    texts = [*map(str, operations), *(one.text for one in errors), *map(str, archived)]
    assert [text for text in texts if CANARY in text.lower()] == []
    # That a file has no header is said to its sender, not to the log.
    headless = b"\n".join(CSV_FILE.splitlines()[1:])
    refused = await client.post(IMPORT, content=headless, headers=CSV)
    assert (refused.status_code, CANARY in refused.text.lower()) == (400, True)

    async def nothing_is_kept() -> bool:
        return await keys_of_files(redis) == []

    await eventually(nothing_is_kept)


async def park_letters(redis: Redis) -> None:
    """Add entries that are no events: of a wrong shape, with wrong values, not even text."""
    partition, *_ = await lead_streams(redis)
    for changes in (
        {"data": '{"lead": {"email": "canary@example.com", "phone": "030 canary 77"}}'},
        {"data": '{"canary": '},
        {"time": "canary@example.com"},
        {"id": "canary@example.com"},
        {"attempt": "canary@example.com"},
        {"data": b"\xffcanary"},
    ):
        event = lead_created(lead_fields(email="canary.event@example.com", city="Canaria"))
        await redis.xadd(partition, {**encode(event), **changes})  # type: ignore[dict-item]
    await redis.xadd(partition, {"canary": "canary"})


async def test_no_log_line_holds_anything_of_anybody(
    system: System,
    database: Database,
    redis: Redis,
    auth: object,  # noqa: ARG001
) -> None:
    client = system.client
    session = await signed_in(client)
    address = await lead_of(client)
    for faults in ({}, {"garbage": True}, {"status": 401}):
        async with system.groq.misbehaving(**faults):
            await client.post(f"{address}/summary?regenerate=true")
    await refuse_defects(database)
    await walk_through_imports(system, database, redis)
    broken = await client.post(
        "/leads", json=lead_body(**LEAD | {"email": "canary.2@example.com", "lastName": "Defect"})
    )
    assert (broken.status_code, broken.json()["code"]) == (500, "operation-failed")
    await park_letters(redis)
    letters = DeadLetterRepository(database)

    async def all_parked() -> bool:
        return len(await letters.page(LetterSelection(), limit=50)) >= 8

    await eventually(all_parked)
    await client.get("/admin/dead-letters", headers={"X-API-Key": KEY})
    await client.get("/admin/dead-letters", headers={"X-API-Key": "canary-guess"})
    await client.delete(address)
    async with database.connection() as connection:
        await connection.execute(DEFECT_OF_READERS)
    defect = await client.get("/leads", params={"q": CANARY})
    assert (defect.status_code, defect.json()["code"]) == (500, "internal-error")
    await client.post("/authentication/logout")

    secrets = (session["access_token"], session["refresh_token"], CANARY)
    leaks = [
        (name, line)
        for name, line in system.lines()
        for secret in secrets
        if secret.lower() in line.lower()
    ]
    assert leaks == []

    logged = [orjson.loads(line) for _, line in system.lines()]
    kinds = {line["event"] for line in logged}
    assert kinds >= {
        "request.ended",
        "http.defect",
        "event.held",
        "event.parked",
        "import.ended",
    }, kinds
    tracebacks = [line["traceback"] for line in logged if "traceback" in line]
    assert any("CheckViolationError" in one for one in tracebacks)
    assert any("DivisionByZeroError" in one for one in tracebacks)


async def test_the_test_would_notice(system: System) -> None:
    """What is searched for does stand where it should: in the answers."""
    await signed_in(system.client)
    answer = await system.client.post("/leads", json=lead_body(**LEAD))
    assert CANARY in answer.text
