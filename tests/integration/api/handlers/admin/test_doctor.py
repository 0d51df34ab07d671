"""`/admin/doctor`: what `ops doctor` finds, from where the API is."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.api.settings import ApiSettings
from shared.events import catalog
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from tests.conftest import LEADS_DIVISION
from tests.integration.api.handlers.admin.conftest import KEY, keep
from tests.support.api import running_api
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_created, lead_fields
from tests.support.silent_server import SilentServer

Findings = dict[str, dict[str, Any]]


@pytest.fixture
async def evicting(redis: Redis) -> AsyncGenerator[None]:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    yield
    await redis.config_set("maxmemory-policy", "noeviction")


async def examined(operator: httpx.AsyncClient) -> Findings:
    answer = await operator.get("/admin/doctor")
    assert answer.status_code == 200
    return {finding["check"]: finding for finding in answer.json()}


@pytest.mark.usefixtures("evicting")
async def test_what_is_wrong_is_said_with_what_to_do(
    operator: httpx.AsyncClient, database: Database, letters: DeadLetterRepository
) -> None:
    partitions = LEADS_DIVISION.last.partitions
    store = PartitionRepository(database)
    await store.divide(catalog.LEADS, partitions=partitions, is_open=True)
    await keep(letters, [lead_created(lead_fields(email="ada@example.com"))])
    findings = await examined(operator)
    wanted = {
        "redis eviction": ("failure", "noeviction"),
        "dead letters": ("warning", "retry or discard"),
        "stream:leads owners": ("warning", "Start a syncer"),
        "postgres writes": ("ok", None),
        "migrations": ("ok", None),
        "backup": ("ok", None),
    }
    for check, (severity, advice) in wanted.items():
        found = findings[check]
        assert found["severity"] == severity, found
        assert (found["advice"] is None) == (advice is None)
        assert (advice or "") in str(found["advice"])
    assert any(check.startswith("auth") for check in findings)
    assert "ada@example.com" not in str(findings)


async def test_a_server_that_hangs_is_a_finding_among_others(
    settings: ApiSettings, silent_server: SilentServer
) -> None:
    nowhere = SecretStr(f"postgresql://postgres:x@127.0.0.1:{silent_server.port}/leads")
    postgres = settings.postgres.model_copy(update={"supabase_connection_string": nowhere})
    async with running_api(replace(settings, postgres=postgres)) as client:
        client.headers["X-API-Key"] = KEY
        findings = await examined(client)
    assert (findings["postgres"]["severity"], findings["postgres"]["detail"]) == (
        "failure",
        "no answer in time",
    )
    assert findings["redis writes"]["severity"] == "ok"


async def test_who_asks_meanwhile_gets_the_same(
    operator: httpx.AsyncClient, auth: AuthServer
) -> None:
    await examined(operator)
    asked = auth.asked_keys
    first, *others = await asyncio.gather(*(examined(operator) for _ in range(3)))
    assert others == [first] * 2
    assert auth.asked_keys == asked + 1
    await examined(operator)
    assert auth.asked_keys == asked + 2
