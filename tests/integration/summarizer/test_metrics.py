"""What is counted, and that it can be fetched."""

from contextlib import ExitStack

import aiohttp

from devstack.free_ports import free_port
from services.summarizer.app import run
from services.summarizer.bootstrap import bootstrap
from shared.events.envelope import new_id
from shared.settings import ObservabilitySettings, PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from tests.integration.summarizer.conftest import OpenSummarizer
from tests.support.eventually import eventually
from tests.support.metrics import grows
from tests.support.stopping import until_stopped
from tests.support.summaries import Says, answer, is_down, requested, stored_lead
from tests.support.summarizer import summarizer_settings


async def test_ends_calls_tokens_and_reasons_are_counted(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    first, second = await stored_lead(database), await stored_lead(database)
    with ExitStack() as stack:
        for end in ("written", "reused", "failed", "not-found"):
            stack.enter_context(grows("leads_summary_seconds_count", by=1, end=end))
        for result, count in {"ok": 2, "provider-unavailable": 1}.items():
            series = grows(
                "leads_model_call_seconds_count", by=count, model="says-hello", result=result
            )
            stack.enter_context(series)
        stack.enter_context(grows("leads_model_tokens_total", by=200, model="says-hello", way="in"))
        stack.enter_context(
            grows("leads_summary_failures_total", by=1, reason="provider-unavailable")
        )
        async with summarizer_of(Says("{}", answer(), is_down())) as summarizer:
            await summarizer.ask(requested(first))
            await summarizer.ask(requested(first))
            await summarizer.ask(requested(second))
            await summarizer.ask(requested(new_id()))


async def test_metrics_are_served(
    postgres_settings: PostgresSettings, streams_settings: StreamsSettings
) -> None:
    port = free_port()
    settings = summarizer_settings(
        postgres_settings,
        streams_settings,
        observability=ObservabilitySettings(health_host="127.0.0.1", health_port=port),
    )

    async def fetch() -> str | None:
        try:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
                return await response.text()
        except aiohttp.ClientConnectionError:
            return None

    async with (
        aiohttp.ClientSession() as session,
        bootstrap(settings) as context,
        until_stopped(lambda stop: run(context, settings, stop), name="summarizer"),
    ):
        text = await eventually(fetch)
    assert text is not None
    assert "leads_model_circuit_open 0.0" in text
    assert 'leads_summary_seconds_count{end="written"}' in text
