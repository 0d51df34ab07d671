"""A lead can be followed by its id, from the request to the reply, through all services."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from services.syncer.schedule import request_sync
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from shared.streams.codec import encode
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import OncePublisher
from tests.support.builders import lead_body, lead_created, lead_fields
from tests.support.eventually import eventually
from tests.support.lead_table import refuse_defects
from tests.support.partitions import lead_streams
from tests.support.whole_system import open_api_client, services_on

Line = dict[str, Any]
LONG = timedelta(seconds=30)  # a busy machine
CSV = {"Content-Type": "text/csv"}


@dataclass(frozen=True, slots=True)
class System:
    """The three services in this process, and what they log."""

    client: httpx.AsyncClient
    redis: Redis
    logs: Sequence[Any]

    def about(self, text: object) -> list[Line]:
        """Return what `grep` finds: a line for each of a batch, as they are written."""
        lines = [{**line, **one} for line in self.logs for one in line.get("each", [{}])]
        return [line for line in lines if str(text) in str(line | {"each": None})]

    async def events_about(self, text: object, *, last: str, times: int = 1) -> list[Line]:
        """Return the lines about something once `last` is among them, so often."""

        async def is_there() -> bool:
            return [one["event"] for one in self.about(text)].count(last) >= times

        await eventually(is_there, within=LONG)
        return self.about(text)


@pytest.fixture
async def system(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    redis: Redis,
) -> AsyncGenerator[System]:
    services = services_on(postgres_settings, streams_settings, cache_settings)
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with (
            services(),
            open_api_client(postgres_settings, streams_settings, cache_settings) as client,
        ):
            yield System(client, redis, logs)


def names(lines: Sequence[Line]) -> list[str]:
    return [line["event"] for line in lines]


async def created(system: System, **changes: Any) -> str:
    response = await system.client.post("/leads", json=lead_body(**changes))
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def changed(system: System) -> str:
    lead_id = await created(system)
    await system.client.patch(f"/leads/{lead_id}", json={"city": "Paris"})
    return lead_id


async def deleted(system: System) -> str:
    lead_id = await created(system)
    await system.client.delete(f"/leads/{lead_id}")
    return lead_id


async def upserted_anew(system: System) -> str:
    external_id = str(uuid4())
    lead_id = await created(system, externalId=external_id)
    body = lead_body(externalId=external_id)
    response = await system.client.put(f"/leads/by-external-id/{external_id}", json=body)
    assert (response.status_code, response.json()["id"]) == (200, lead_id), response.text
    return lead_id


async def summarised(system: System) -> str:
    lead_id = await created(system)
    response = await system.client.post(f"/leads/{lead_id}/summary")
    assert response.status_code == 200, response.text
    return lead_id


ENDS = {"event.applied", "event.parked"}
WAY = ["event.accepted", "event.applied", "request.ended"]


@pytest.mark.parametrize(
    ("walk", "types", "results"),
    [
        (created, ["lead-created"], ["created"]),
        (changed, ["lead-created", "lead-updated"], ["created", "updated"]),
        (deleted, ["lead-created", "lead-deleted"], ["created", "deleted"]),
        (upserted_anew, ["lead-created"], ["created", "updated"]),
        (summarised, ["lead-created", "summary-requested"], ["created", "summarised"]),
    ],
)
async def test_a_lead_is_followed_from_request_to_reply(
    system: System,
    walk: Callable[[System], Awaitable[str]],
    types: list[str],
    results: list[str],
) -> None:
    lead_id = await walk(system)
    await system.events_about(lead_id, last="request.ended", times=len(results))
    # The reply goes first.
    lines = await system.events_about(lead_id, last="event.applied", times=len(results))

    # The event of an upsert names the lead that it would make.
    accepted = [line for line in lines if line["event"] == "event.accepted"]
    assert [line["type"] for line in accepted] == types
    applied = [line for line in lines if line["event"] == "event.applied"]
    assert [line["result"] for line in applied] == results
    for line in applied:
        assert line["partition"].startswith("stream:")
        assert line["attempt"] == 1
        assert line["wait"] >= 0
        assert line["ms"] > 0
    ended = [line for line in lines if line["event"] == "request.ended"]
    # What a consumer says and what the request's own line says have the ids in common.
    by_event = {line["event_id"]: line for line in ended}
    for line in applied:
        request = by_event[line["event_id"]]
        assert str(line["lead_id"]) == lead_id
        assert line["correlation_id"] == request["request_id"]
    assert ("summary.written" in names(lines)) == (walk is summarised)


async def test_the_request_is_followed_by_its_id(system: System) -> None:
    headers = {"X-Request-Id": "the-callers-own.1"}
    await system.client.post("/leads", json=lead_body(), headers=headers)
    await system.events_about("the-callers-own.1", last="request.ended")
    lines = await system.events_about("the-callers-own.1", last="event.applied")
    assert sorted(names(lines)) == WAY


async def test_each_row_of_a_batch_and_of_a_file_has_its_lines(system: System) -> None:
    rows = [lead_body() for _ in range(3)]
    response = await system.client.post("/leads/batch", json={"mode": "create", "leads": rows})
    for result in response.json()["results"]:
        lines = await system.events_about(result["lead"]["id"], last="event.applied")
        assert names(lines) == WAY[:2]
    [ended] = system.about("request.ended")
    assert "lead_id" not in ended

    address = f"{uuid4()}@example.com"
    content = f"firstName,lastName,email\nGrace,Hopper,{address}\n"
    await system.client.post("/leads/import", content=content, headers=CSV)

    async def found() -> list[str]:
        page = await system.client.get("/leads", params={"email": address})
        return [lead["id"] for lead in page.json()]

    await eventually(found)
    [lead_id] = await found()
    lines = await system.events_about(lead_id, last="event.applied")
    assert names(lines) == WAY[:2]
    [begun] = [line for line in system.about("/leads/import") if "route" in line]
    assert {line["correlation_id"] for line in lines} == {begun["request_id"]}


async def test_a_sync_tick_is_followed_to_each_of_its_leads(system: System) -> None:
    await request_sync(datetime.now(UTC), OncePublisher(system.redis, Divisions(system.redis)))
    lines = await system.events_about("lead-created", last="event.applied", times=10)
    [tick] = [line for line in system.about("sync-requested") if "result" in line]
    assert {line["correlation_id"] for line in lines} == {tick["event_id"]}
    assert tick["correlation_id"] == tick["event_id"]


async def test_what_fails_is_followed_too(system: System, database: Database) -> None:
    await refuse_defects(database)
    headers = {"Prefer": "respond-async"}  # it will not be there soon
    response = await system.client.post(
        "/leads", json=lead_body(lastName="Defect"), headers=headers
    )
    assert response.status_code == 202, response.text
    accepted = await system.events_about(response.headers["X-Request-Id"], last="event.held")
    [lead_id] = {line["lead_id"] for line in accepted if "lead_id" in line}
    [held] = [line for line in system.about(lead_id) if line["event"] == "event.held"][:1]
    assert (held["reason"], held["log_level"], held["attempt"]) == ("defect", "warning", 2)
    assert held["due"] > datetime.now(UTC).isoformat()[:10]


async def test_ids_that_are_none_are_not_logged(system: System) -> None:
    """Who may write to a stream may write anything: a name, an address."""
    partition, *_ = await lead_streams(system.redis)
    fields = ("subject", "correlationid", "traceparent", "type", "id", "source", "partitionkey")
    for field in fields:
        entry = {**encode(lead_created(lead_fields())), field: f"{field}.canary@example.com"}
        await system.redis.xadd(partition, entry)

    async def have_ended() -> bool:
        ends = [one for one in system.about("stream:leads") if one["event"] in ENDS]
        return len(ends) >= len(fields)

    await eventually(have_ended)
    assert system.about("canary") == []
