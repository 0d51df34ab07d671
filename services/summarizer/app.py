"""What runs in a summarizer: a worker per subscription, the sweeper and the health server."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta

import structlog

from services.summarizer.bootstrap import SummarizerContext, bootstrap
from services.summarizer.settings import SummarizerSettings
from services.summarizer.storage.budget import MinuteBudget
from services.summarizer.upstream import Usage
from shared.background import end, repeat
from shared.domain.errors import UnavailableError
from shared.events import catalog
from shared.lifecycle import instance_name, stop_signal
from shared.observability.health import Check, serve_health
from shared.observability.logging import configure_logging
from shared.observability.outages import Outages
from shared.observability.tracing import traced
from shared.streams.model_status import TELL_EVERY, ModelStatus, ModelStatuses
from shared.streams.workers import AnyWorker, open_workers

MEASURE_EVERY = timedelta(seconds=15)

log = structlog.get_logger(__name__)


async def main() -> None:
    """Read the settings and run until SIGTERM or SIGINT."""
    settings = SummarizerSettings.load()
    name = instance_name(catalog.SUMMARIZER)
    configure_logging(settings.observability, service=catalog.SUMMARIZER, instance=name)
    with traced(settings.observability, service=catalog.SUMMARIZER, instance=name):
        async with stop_signal() as stop, bootstrap(settings) as context:
            await run(context, settings, stop, name=name)


async def run(
    context: SummarizerContext,
    settings: SummarizerSettings,
    stop: asyncio.Event,
    *,
    name: str | None = None,
) -> None:
    """Run until `stop` is set and everything in flight has ended."""
    name = name or instance_name(catalog.SUMMARIZER)
    opening = open_workers(
        context.redis,
        context.subscriptions,
        streams=settings.streams,
        dead_letters=context.dead_letters,
        settings=settings.consumer,
        name=name,
        stop=stop,
    )
    async with opening as workers, serve_health(settings.observability, _checks(context, workers)):
        async with asyncio.TaskGroup() as tasks:
            sweeper = tasks.create_task(context.sweeper.run(), name="sweeper")
            measuring = tasks.create_task(_measure(context.budget), name="budget")
            for worker in workers:
                tasks.create_task(worker.run(), name=f"worker {worker.stream}")
            telling = tasks.create_task(
                _tell(context, settings, name=name), name="chore model status"
            )
            provider = context.provider
            log.info(
                "summarizer.started", consumer=name, provider=provider.name, model=provider.model
            )
            await stop.wait()
            for task in (sweeper, measuring, telling):
                await end(task)
        log.info("summarizer.stopped")


async def _measure(budget: MinuteBudget | None) -> None:
    if budget is not None:
        await repeat(budget.measure, every=MEASURE_EVERY, outages=Outages(), activity="budget")


async def _tell(context: SummarizerContext, settings: SummarizerSettings, *, name: str) -> None:
    """Tell operators what this process takes of the model, and may take, as long as it runs."""
    statuses, total, told = ModelStatuses(context.redis), context.upstream.total, Usage()

    async def tell() -> None:
        calls, tokens = total.calls, total.tokens
        await statuses.tell(
            _status(context, settings, name=name),
            calls=calls - told.calls,
            tokens=tokens - told.tokens,
        )
        told.calls, told.tokens_in = calls, tokens

    try:
        await repeat(tell, every=TELL_EVERY, outages=Outages(), activity="model status")
    finally:
        with contextlib.suppress(UnavailableError):
            await tell()
            await statuses.leave(name)


def _status(context: SummarizerContext, settings: SummarizerSettings, *, name: str) -> ModelStatus:
    groq, has_budget = settings.groq, context.budget is not None
    return ModelStatus(
        consumer=name,
        provider=context.provider.name,
        model=context.provider.model,
        account=groq.account,
        most_calls=groq.requests_per_minute or None if has_budget else None,
        most_tokens=groq.tokens_per_minute or None if has_budget else None,
        most_summaries=settings.daily_quota or None,
        is_circuit_open=context.circuit.is_open,
    )


def _checks(context: SummarizerContext, workers: Sequence[AnyWorker]) -> dict[str, Check]:
    checks: dict[str, Check] = {worker.stream: worker.check for worker in workers}
    checks["postgres"] = context.database.ping
    return checks
