"""What is counted, and that it can be fetched."""

from collections.abc import Mapping

import aiohttp

from devstack.free_ports import free_port
from services.summarizer.app import run
from services.summarizer.bootstrap import bootstrap
from shared.events.envelope import new_id
from shared.settings import ObservabilitySettings, PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from tests.integration.summarizer.conftest import OpenSummarizer
from tests.support.eventually import eventually
from tests.support.stopping import until_stopped
from tests.support.summaries import Says, Summarizer, answer, is_down, requested, stored_lead
from tests.support.summarizer import summarizer_settings


def value(summarizer: Summarizer, name: str, **labels: str) -> float | None:
    return summarizer.registry.get_sample_value(f"leads_summary_{name}", labels)


async def test_ends_calls_tokens_and_reasons_are_counted(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    first, second = await stored_lead(database), await stored_lead(database)
    async with summarizer_of(Says("{}", answer(), is_down())) as summarizer:
        await summarizer.ask(requested(first))
        await summarizer.ask(requested(first))
        await summarizer.ask(requested(second))
        await summarizer.ask(requested(new_id()))
    ends: Mapping[str, float] = {"written": 1, "reused": 1, "failed": 1, "not-found": 1}
    for end, count in ends.items():
        assert value(summarizer, "requests_total", end=end) == count
    assert value(summarizer, "model_calls_total") == 3
    assert value(summarizer, "model_tokens_total", way="in") == 200
    assert value(summarizer, "failures_total", reason="provider-unavailable") == 1
    assert value(summarizer, "seconds_count") == 2


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
    assert "leads_summary_breaker_open 0.0" in text
