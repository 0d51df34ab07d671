"""What is a span, below which one, and what it says: the three services in one process."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from typing import Any
from urllib.error import HTTPError
from uuid import uuid4

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis
from structlog.testing import capture_logs

from shared.domain.errors import PermanentError, TransientError
from shared.observability import tracing
from shared.observability.span_attributes import error_type, statement_summary
from shared.observability.spans import Reported
from shared.observability.tracer import Tracer
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.lead_table import refuse_defects
from tests.support.whole_system import OPERATOR, open_api_client, services_on

LONG = timedelta(seconds=30)  # a busy machine
CLIENTS_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{CLIENTS_TRACE}-00f067aa0ba902b7-00"  # a client's flag decides nothing


@dataclass(frozen=True, slots=True)
class System:
    """The three services, and what they trace."""

    client: httpx.AsyncClient
    tracer: Tracer
    exporter: InMemorySpanExporter

    def spans(self) -> Sequence[ReadableSpan]:
        self.tracer.flush()
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.name == name]

    async def has(self, name: str, *, times: int = 1) -> list[ReadableSpan]:
        """Return the spans of a name once there are so many."""

        async def is_there() -> bool:
            return len(self.named(name)) >= times

        await eventually(is_there, within=LONG)
        return self.named(name)


@pytest.fixture
def ratio() -> float:
    return 1.0


@pytest.fixture
def tracer(ratio: float) -> Generator[tuple[Tracer, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    with tracing.tracing_to(exporter, ratio=ratio, service="test") as opened:
        yield opened, exporter
    assert tracing.tracer is None


@pytest.fixture
async def system(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    redis: Redis,  # noqa: ARG001 (empty)
    tracer: tuple[Tracer, InMemorySpanExporter],
) -> AsyncGenerator[System]:
    services = services_on(postgres_settings, streams_settings, cache_settings)
    async with (
        services(),
        open_api_client(postgres_settings, streams_settings, cache_settings) as client,
    ):
        yield System(client, *tracer)


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def linked(span: ReadableSpan) -> set[int]:
    return {link.context.span_id for link in span.links}


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def create(system: System, **headers: str) -> str:
    response = await system.client.post("/leads", json=lead_body(), headers=headers)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def test_a_create_is_one_trace_from_the_clients_to_the_reply(system: System) -> None:
    lead_id = await create(system, traceparent=TRACEPARENT)
    await system.has("send reply")
    [request] = await system.has("POST /leads")
    [send] = await system.has("send stream:leads")
    [process] = await system.has("process stream:leads")
    [batch] = await system.has("batch stream:leads")
    [reply] = await system.has("send reply")
    [insert] = await system.has("INSERT leads.event")

    way = [request, send, process, reply]
    assert {trace_of(span) for span in [*way, batch, insert]} == {CLIENTS_TRACE}
    assert parent_of(request) == 0x00F067AA0BA902B7
    assert [parent_of(span) for span in way[1:]] == [id_of(request), id_of(send), id_of(process)]
    assert (parent_of(batch), parent_of(insert)) == (id_of(process), id_of(batch))
    assert (linked(batch), linked(process)) == ({id_of(process)}, {id_of(batch)})
    assert said(request) == {
        "http.request.method": "POST",
        "http.route": "/leads",
        "http.response.status_code": 201,
    }
    about = said(process)
    assert (about["leads.lead_id"], about["leads.attempt"]) == (lead_id, 1)
    assert (about["leads.result"], about["messaging.consumer.group.name"]) == ("created", "syncer")
    assert said(insert)["db.system.name"] == "postgresql"


async def test_a_summary_goes_on_to_the_model(system: System) -> None:
    lead_id = await create(system)
    await system.client.post(f"/leads/{lead_id}/summary", headers={"traceparent": TRACEPARENT})
    [process] = await system.has("process stream:summaries")
    [chat] = await system.has("chat rules-1")
    await system.has("send reply", times=2)

    assert (trace_of(chat), parent_of(chat)) == (CLIENTS_TRACE, id_of(process))
    assert said(chat) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "offline",
        "gen_ai.request.model": "rules-1",
        "gen_ai.usage.input_tokens": 0,
        "gen_ai.usage.output_tokens": 0,
    }
    replies = {parent_of(span) for span in system.named("send reply")}
    assert id_of(process) in replies


async def test_a_summary_that_is_streamed_is_in_its_requests_trace(system: System) -> None:
    lead_id = await create(system)
    headers = {"Accept": "text/event-stream", "traceparent": TRACEPARENT}
    await system.client.post(f"/leads/{lead_id}/summary", headers=headers)
    [request] = await system.has("POST /leads/{id}/summary")
    [send] = await system.has("send stream:summaries")
    assert (trace_of(send), parent_of(send)) == (CLIENTS_TRACE, id_of(request))


async def test_a_batch_has_a_span_for_each_event_and_is_linked_both_ways(system: System) -> None:
    rows = [lead_body() for _ in range(20)]
    body = {"mode": "create", "leads": rows}
    await system.client.post("/leads/batch", json=body, headers={"traceparent": TRACEPARENT})
    sends = await system.has("send stream:leads", times=len(rows))
    processes = await system.has("process stream:leads", times=len(rows))
    batches = system.named("batch stream:leads")

    assert {trace_of(span) for span in [*sends, *processes]} == {CLIENTS_TRACE}
    assert {parent_of(span) for span in processes} == {id_of(span) for span in sends}
    for batch in batches:
        its = {id_of(span) for span in processes if id_of(batch) in linked(span)}
        assert linked(batch) == its
        assert said(batch)["messaging.batch.message_count"] == len(its)
        # Of several it belongs to none.
        assert (batch.parent is None) == (len(its) > 1)
    assert sum(len(linked(batch)) for batch in batches) == len(rows)
    assert len(batches) < len(rows)


async def test_each_attempt_is_a_span_below_the_same_one(
    system: System, database: Database
) -> None:
    await refuse_defects(database)
    body = lead_body(lastName="Defect")
    headers = {"traceparent": TRACEPARENT, "Prefer": "respond-async"}
    await system.client.post("/leads", json=body, headers=headers)
    processes = (await system.has("process stream:leads", times=2))[:2]
    [send] = await system.has("send stream:leads")

    assert {parent_of(span) for span in processes} == {id_of(send)}
    assert [said(span)["leads.attempt"] for span in processes] == [1, 2]
    for span in processes:
        assert said(span)["error.type"] == "CheckViolationError"
        assert span.status.description is None  # an error's words may be anybody's
        assert list(span.events) == []


@pytest.mark.parametrize("origin", ["stream", "archive"])
async def test_a_replay_is_a_trace_of_its_own(
    system: System, database: Database, origin: str
) -> None:
    await create(system, traceparent=TRACEPARENT)
    [send] = await system.has("send stream:leads")
    async with database.connection() as connection:
        await connection.execute("DELETE FROM leads.lead")
    order = {"origin": origin, "dryRun": False, "types": ["lead-created"]}
    await system.client.post("/admin/replays", json=order, headers=OPERATOR)
    _, replayed = await system.has("process stream:leads", times=2)

    assert replayed.parent is None
    assert trace_of(replayed) != CLIENTS_TRACE
    # An event that was archived does not say where it came from.
    assert linked(replayed) >= ({id_of(send)} if origin == "stream" else set())


async def test_rows_of_a_file_begin_traces_that_are_linked_to_it(system: System) -> None:
    content = "firstName,lastName,email\n" + "".join(
        f"Grace,Hopper,{uuid4()}@example.com\n" for _ in range(3)
    )
    headers = {"traceparent": TRACEPARENT, "Content-Type": "text/csv"}
    await system.client.post("/leads/import", content=content, headers=headers)
    sends = await system.has("send stream:leads", times=3)
    [of_file, *_] = await system.has("process stream:imports")
    assert len({trace_of(span) for span in sends} | {CLIENTS_TRACE}) == 4
    assert [linked(span) for span in sends] == [{id_of(of_file)}] * 3
    assert trace_of(of_file) == CLIENTS_TRACE


@pytest.mark.parametrize("ratio", [0.0])
async def test_what_is_not_sampled_has_no_span_in_any_service(system: System) -> None:
    for headers in ({}, {"traceparent": TRACEPARENT.removesuffix("00") + "01"}):
        await create(system, **headers)
    lead_id = await create(system)
    await system.client.post(f"/leads/{lead_id}/summary")
    assert list(system.spans()) == []


@pytest.mark.parametrize("ratio", [0.3])
async def test_a_trace_is_whole_or_not_there(system: System) -> None:
    await asyncio.gather(*(create(system) for _ in range(30)))
    requests = system.named("POST /leads")
    assert 0 < len(requests) < 30
    await system.has("send reply", times=len(requests))
    for name in ("send stream:leads", "process stream:leads", "send reply"):
        assert {trace_of(span) for span in system.named(name)} == set(map(trace_of, requests))


async def test_a_context_that_is_none_begins_a_trace(system: System) -> None:
    version_ff = f"ff-{CLIENTS_TRACE}-00f067aa0ba902b7-01"
    others = ["", "canary", f"00-{'0' * 32}-00f067aa0ba902b7-01", version_ff]
    for traceparent in others:
        await create(system, traceparent=traceparent)
    requests = await system.has("POST /leads", times=len(others))
    assert {request.parent for request in requests} == {None}
    assert len({trace_of(request) for request in requests} - {CLIENTS_TRACE}) == len(others)


async def misses(client: httpx.AsyncClient) -> None:
    await client.get("/canary@example.com")


async def reads_nothing(client: httpx.AsyncClient) -> None:
    await client.get("/leads/canary@example.com", params={"q": "canary"})


async def is_refused(client: httpx.AsyncClient) -> None:
    await client.post("/leads", json=lead_body(email="canary", canary=1))


async def searches(client: httpx.AsyncClient) -> None:
    await client.get("/leads", params={"q": "canary", "email": "canary@example.com"})


async def creates(client: httpx.AsyncClient) -> None:
    body = lead_body(firstName="Canary", email=f"canary.{uuid4()}@example.com", city="Canaria")
    created = await client.post("/leads", json=body, headers={"baggage": "user=canary"})
    await client.post("/leads", json=body | {"externalId": None})
    await client.patch(created.headers["Location"], json={"city": "Canaria del Sur"})
    await client.post(f"{created.headers['Location']}/summary")


async def test_no_span_says_anything_of_anybody(system: System) -> None:
    for walk in (misses, reads_nothing, is_refused, searches, creates):
        system.exporter.clear()
        await walk(system.client)
        spans = system.spans()
        assert spans, walk
        told = " ".join(span.to_json() for span in spans).lower()
        assert [word for word in ("canar", "example.com", "lovelace") if word in told] == [], walk


def test_lost_spans_are_told() -> None:
    with capture_logs() as logs:
        assert Reported(Refusing()).export([]) is SpanExportResult.FAILURE
    assert [(line["event"], line["log_level"]) for line in logs] == [("traces.lost", "warning")]


class Refusing(SpanExporter):
    """A collector that is away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 (the port's)
        return SpanExportResult.FAILURE


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        ("SELECT 1", "SELECT"),
        ("BEGIN READ ONLY; ", "BEGIN"),
        ("COMMIT", "COMMIT"),
        ("BEGIN; SELECT leads.fence('stream:leads', 1, 'x')", "BEGIN leads.fence"),
        ("\n  SELECT id FROM leads.lead WHERE id = $1", "SELECT leads.lead"),
        (
            "-- Why.\nWITH a AS (SELECT 1 FROM leads.lead) INSERT INTO leads.event",
            "INSERT leads.event",
        ),
        ("UPDATE leads.summary SET x = 'canary@example.com'", "UPDATE leads.summary"),
        ("DELETE FROM leads.held_entry WHERE y", "DELETE leads.held_entry"),
        ("canary@example.com said", "?"),
    ],
)
def test_a_statement_is_named_without_its_values(statement: str, summary: str) -> None:
    assert statement_summary(statement) == summary


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermanentError("canary", code="invalid-data"), "invalid-data"),
        (TransientError("canary"), "TransientError"),
        (UnicodeDecodeError("ascii", b"canary", 0, 1, "canary"), "UnicodeDecodeError"),
        (HTTPError("http://canary", 418, "canary", Message(), None), "HTTPError"),
    ],
)
def test_of_an_error_its_kind_is_told(error: Exception, kind: str) -> None:
    assert error_type(error) == kind
