"""One trace through three processes to a collector, and what happens without one."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest

from devstack.free_ports import free_port
from devstack.standins.groq import GroqSettings, create_app
from devstack.standins.serving import running
from services.api.settings import ApiSettings
from shared.storage.pool import Database
from tests.support.api_process import environment_of
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.lead_table import refuse_defects
from tests.support.otlp_receiver import LONG, OtlpReceiver, otlp_receiver
from tests.support.repository import ROOT
from tests.support.service_process import ServiceProcess, running_service
from tests.support.silent_server import SilentServer

KEY = "the-operators-key"
SERVICES = ("api", "syncer", "summarizer")
# More than a process takes to end, and less than a silent collector would hold it up.
# The SDK itself would wait for 10 s; a second is waited for here, and the machine may be busy.
SOON = 5.0


@dataclass(frozen=True, slots=True)
class System:
    """The three processes, a client and the collector."""

    services: dict[str, ServiceProcess]
    client: httpx.AsyncClient
    received: OtlpReceiver

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.services[name].lines]

    async def post(self, path: str, trace: str, **options: Any) -> httpx.Response:
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        return await self.client.post(path, headers=headers | options.pop("headers", {}), **options)


def trace_id(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture
async def system(api_settings: ApiSettings, auth: AuthServer) -> AsyncGenerator[System]:
    port, groq_settings = free_port(), GroqSettings()
    async with AsyncExitStack() as stack:
        received = await stack.enter_async_context(otlp_receiver())
        groq = await stack.enter_async_context(running(create_app(groq_settings), groq_settings))
        environment = environment_of(api_settings, port=port) | {
            "API_KEY": KEY,
            "CREATE_TIMEOUT": "20",
            "SYNC_ENABLED": "false",
            "STREAM_BLOCK": "0.2",
            "SUMMARY_PROVIDER": "groq",
            "GROQ_API_KEY": "canary-groq-key",
            "GROQ_BASE_URL": str(groq).rstrip("/"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer of-the-collector,x-tenant=leads",
            "TRACE_RATIO": "1",
        }
        opened = await asyncio.gather(
            *(
                stack.enter_async_context(running_service(f"services.{name}", environment))
                for name in SERVICES
            )
        )
        headers = {"Authorization": f"Bearer {auth.token()}"}
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)
        )
        yield System(dict(zip(SERVICES, opened, strict=True)), client, received)


@pytest.mark.long
async def test_a_trace_goes_through_three_processes(system: System, database: Database) -> None:
    created = await create(system, trace_id(1))
    await summarise(system, created.headers["Location"], trace_id(2))
    await write_a_batch(system, trace_id(3))
    await replay(system, trace_id(1))
    await refuse_defects(database)
    await try_again(system, trace_id(4))

    told = b" ".join(system.received.bodies).lower()
    assert told.count(b"leads-api") > 1
    for canary in (b"canar", b"example.com", b"lovelace", auth_of(system)):
        assert canary not in told
    sent = system.received.headers[0]
    assert (sent["authorization"], sent["x-tenant"]) == ("Bearer of-the-collector", "leads")


async def create(system: System, trace: str) -> httpx.Response:
    body = lead_body(firstName="Canary", email="canary@example.com", city="Canaria")
    created = await system.post("/leads", trace, json=body, headers={"baggage": "user=canary"})
    assert created.status_code == 201, created.text
    await system.received.has("send reply", trace=trace)
    await system.received.has("POST /leads", trace=trace)
    way = [
        system.received.named(name, trace=trace)[0]
        for name in ("POST /leads", "send stream:leads", "process stream:leads", "send reply")
    ]
    assert [(span.service, span.kind) for span in way] == [
        ("leads-api", "SERVER"),
        ("leads-api", "PRODUCER"),
        ("leads-syncer", "CONSUMER"),
        ("leads-syncer", "PRODUCER"),
    ]
    assert [span.parent for span in way] == ["00f067aa0ba902b7", *(span.id for span in way[:-1])]
    # Log lines of the request name its trace, in every process.
    for service, event in (("api", "request.ended"), ("syncer", "event.applied")):
        [line] = [one for one in system.lines(service) if one["event"] == event]
        assert line["trace"] == trace
    return created


async def summarise(system: System, address: str, trace: str) -> None:
    response = await system.post(f"{address}/summary", trace)
    assert response.status_code == 200, response.text
    [chat] = await system.received.has("chat openai/gpt-oss-20b", trace=trace)
    [process] = await system.received.has("process stream:summaries", trace=trace)
    assert (chat.service, chat.kind, chat.parent) == ("leads-summarizer", "CLIENT", process.id)
    assert chat.attributes["gen_ai.usage.output_tokens"] > 0


async def write_a_batch(system: System, trace: str, *, rows: int = 200) -> None:
    leads = [lead_body(email=f"canary.{number}@example.com") for number in range(rows)]
    response = await system.post("/leads/batch", trace, json={"mode": "create", "leads": leads})
    assert {row["status"] for row in response.json()["results"]} == {201}
    processes = await system.received.has("process stream:leads", times=rows, trace=trace)
    sends = await system.received.has("send stream:leads", times=rows, trace=trace)
    assert {span.parent for span in processes} == {span.id for span in sends}

    # Linked both ways, whichever came together.
    async def are_linked() -> bool:
        batches = {(one.trace, one.id): one for one in system.received.named("batch stream:leads")}
        return all(
            (span.trace, span.id) in batches[link].links
            for span in processes
            for link in span.links
            if link in batches
        ) and all(span.links & batches.keys() for span in processes)

    await eventually(are_linked, within=LONG)


async def replay(system: System, trace: str) -> None:
    [send] = system.received.named("send stream:leads", trace=trace)
    order = {"origin": "stream", "dryRun": False, "types": ["lead-created"]}
    await system.client.post("/admin/replays", json=order, headers={"X-API-Key": KEY})

    async def is_linked() -> bool:
        link = (send.trace, send.id)
        again = [one for one in system.received.spans if link in one.links]
        return [(one.name, one.parent) for one in again] == [("process stream:leads", "")]

    await eventually(is_linked, within=LONG)


async def try_again(system: System, trace: str) -> None:
    headers = {"Prefer": "respond-async"}
    await system.post("/leads", trace, json=lead_body(lastName="Defect"), headers=headers)
    attempts = (await system.received.has("process stream:leads", times=2, trace=trace))[:2]
    [send] = await system.received.has("send stream:leads", trace=trace)
    assert {span.parent for span in attempts} == {send.id}
    assert [span.attributes["leads.attempt"] for span in attempts] == [1, 2]
    assert {span.attributes["error.type"] for span in attempts} == {"CheckViolationError"}


def auth_of(system: System) -> bytes:
    return system.client.headers["Authorization"].encode().lower()


IS_OFF = """
import os, sys
from services.api import app as api
from services.summarizer import app as summarizer
from services.syncer import app as syncer
from shared.observability import tracing
from shared.settings import ObservabilitySettings, SettingsError, load

def trace():
    with tracing.traced(load(ObservabilitySettings), service="api", instance=""):
        return tracing.tracer

assert trace() is None
# The client of Redis has metrics of its own, and imports what it finds for these.
traces = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "shared.observability.tracer")
assert [name for name in sys.modules if name.startswith(traces)] == []

# As if the extra had not been installed.
sys.modules["opentelemetry.exporter"] = None
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
try:
    trace()
except SettingsError as error:
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: needs the extra `tracing`" in str(error), error
else:
    raise AssertionError("no error")
"""
ENDS = """
import time
from opentelemetry.trace import SpanKind
from shared.observability import tracing
from shared.settings import ObservabilitySettings, load

with tracing.traced(load(ObservabilitySettings), service="api", instance=""):
    for number in range(2_000):
        tracing.tracer.begin("anything", None, SpanKind.INTERNAL).end()
    time.sleep(0.3)  # some of it is being sent
    print(time.time())
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"ENV_FILE": "", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    result = run(IS_OFF)
    assert result.returncode == 0, result.stderr


async def test_a_silent_collector_holds_up_no_end() -> None:
    async with SilentServer() as server:
        url = f"http://127.0.0.1:{server.port}"
        result = run(ENDS, OTEL_EXPORTER_OTLP_ENDPOINT=url, TRACE_RATIO="1")
        ended_at = time.time()
    assert (result.returncode, result.stderr) == (0, "")
    assert ended_at - float(result.stdout) < SOON


async def test_what_is_left_goes_to_a_collector_that_takes_it() -> None:
    async with otlp_receiver() as received:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "TRACE_RATIO": "1"}
        result = await asyncio.to_thread(run, ENDS, **environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(received.spans) == 2_000
