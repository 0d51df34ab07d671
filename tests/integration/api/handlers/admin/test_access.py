"""Who may operate the system, the streams that they see, and the record of what they do."""

import asyncio
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.api.settings import ApiSettings
from shared.background import background
from shared.events import catalog
from shared.storage.dead_letters import DeadLetterRepository
from shared.streams.consuming.group import last_entry
from shared.streams.publisher import add_events
from tests.conftest import LEADS_DIVISION
from tests.integration.api.handlers.admin.conftest import KEY, keep
from tests.support.api import OpenApi, running_api
from tests.support.builders import lead_created
from tests.support.partitions import lead_entries, show_position
from tests.support.silent_server import SilentServer


class TestKey:
    @pytest.mark.parametrize("key", ["", " ", "api-key", "changeme", "your-api-key"])
    async def test_a_placeholder_opens_nothing_even_to_itself(
        self, key: str, open_api: OpenApi
    ) -> None:
        async with open_api(api_key=SecretStr(key)) as api:
            for sent in ({}, {"X-API-Key": key.strip() or "x"}):
                answer = await api.get("/admin/streams", headers=sent)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")

    @pytest.mark.parametrize("key", [KEY[:-1], KEY + "x", KEY.upper(), "", f"{KEY},{KEY}"])
    async def test_only_the_whole_key_opens(self, key: str, operator: httpx.AsyncClient) -> None:
        answer = await operator.get("/admin/dead-letters", headers={"X-API-Key": key})
        assert answer.status_code == 401

    async def test_of_two_keys_none_opens(self, operator: httpx.AsyncClient) -> None:
        headers = [("X-API-Key", KEY), ("X-API-Key", "another")]
        answer = await operator.get("/admin/dead-letters", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation-failed")

    async def test_it_is_no_key_to_anything_else(self, operator: httpx.AsyncClient) -> None:
        assert (await operator.get("/leads")).status_code == 401


async def test_streams_are_shown_with_their_groups(
    operator: httpx.AsyncClient, redis: Redis
) -> None:
    await add_events(redis, [lead_created() for _ in range(3)])
    names = LEADS_DIVISION.last.names
    for name in names:
        await show_position(redis, stream=name, group=catalog.SYNCER, position="0-0")
    answer = await operator.get("/admin/streams")
    assert answer.status_code == 200
    shown = {stream["name"]: stream for stream in answer.json()}
    assert shown.keys() == {*catalog.STREAMS, "stream:dead-letters"}
    leads = shown[catalog.LEADS]
    assert (leads["exists"], leads["length"], leads["perSecond"]) == (True, 3, 0.0)
    [group] = leads["groups"]
    assert (group["name"], group["undelivered"], group["pending"]) == ("syncer", 3, 0)
    assert group["retries"] == 0
    assert [one["name"] for one in leads["partitions"]] == names
    assert [(one["layout"], one["number"]) for one in leads["partitions"]] == [
        (1, number) for number in range(len(names))
    ]
    assert sum(one["lag"] for one in leads["partitions"]) == 3
    assert {one["handledPerSecond"] for one in (group, *leads["partitions"])} == {0.0}
    assert all(
        stream["partitions"] == [] for name, stream in shown.items() if name != "stream:leads"
    )


async def test_how_fast_a_group_is_stands_beside_its_backlog(
    operator: httpx.AsyncClient, redis: Redis
) -> None:
    busy, *idle = LEADS_DIVISION.last.names
    await show_position(redis, stream=idle[0], group=catalog.SYNCER, position="0-0")

    async def apply_one_after_the_other() -> None:
        while True:
            await redis.xadd(busy, {"a": "b"})
            last = await last_entry(redis, busy)
            assert last is not None
            position = "{}-{}".format(*last)
            await show_position(redis, stream=busy, group=catalog.SYNCER, position=position)
            await asyncio.sleep(0.02)

    await show_position(redis, stream=busy, group=catalog.SYNCER, position="0-0")
    async with background(apply_one_after_the_other(), name="syncer"):
        answer = await operator.get("/admin/streams")
    [leads] = [stream for stream in answer.json() if stream["name"] == catalog.LEADS]
    rates = [one["handledPerSecond"] for one in leads["partitions"]]
    assert rates[0] > 0
    # Nothing has come to the last one yet, not even its group.
    assert rates[1:] == [0.0, None]
    assert leads["groups"][0]["handledPerSecond"] == rates[0]


async def test_nothing_is_done_that_cannot_be_recorded(
    settings: ApiSettings, letters: DeadLetterRepository, silent_server: SilentServer, redis: Redis
) -> None:
    await keep(letters, [lead_created()])
    nowhere = SecretStr(f"postgresql://postgres:x@127.0.0.1:{silent_server.port}/leads")
    postgres = settings.postgres.model_copy(update={"supabase_connection_string": nowhere})
    async with running_api(replace(settings, postgres=postgres)) as client:
        client.headers["X-API-Key"] = KEY
        answer = await client.post("/admin/dead-letters/retry?reason=attempts")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert len(await lead_entries(redis)) == 0
