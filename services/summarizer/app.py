"""What runs in a summarizer: a worker per subscription, the sweeper and the health server."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from services.summarizer.bootstrap import SummarizerContext, bootstrap
from services.summarizer.settings import SummarizerSettings
from services.summarizer.storage.budget import MinuteBudget
from shared.background import end, repeat
from shared.events import catalog
from shared.lifecycle import instance_name, stop_signal
from shared.observability.health import Check, serve_health
from shared.observability.logging import configure_logging
from shared.observability.outages import Outages
from shared.observability.tracing import traced
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
            provider = context.provider
            log.info(
                "summarizer.started", consumer=name, provider=provider.name, model=provider.model
            )
            await stop.wait()
            for task in (sweeper, measuring):
                await end(task)
        log.info("summarizer.stopped")


async def _measure(budget: MinuteBudget | None) -> None:
    if budget is not None:
        await repeat(budget.measure, every=MEASURE_EVERY, outages=Outages(), activity="budget")


def _checks(context: SummarizerContext, workers: Sequence[AnyWorker]) -> dict[str, Check]:
    checks: dict[str, Check] = {worker.stream: worker.check for worker in workers}
    checks["postgres"] = context.database.ping
    return checks
