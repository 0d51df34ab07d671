"""What runs in a syncer: a worker per subscription, the schedule and the health server."""

import asyncio
from collections.abc import Sequence

import structlog

from services.syncer.bootstrap import SyncerContext, bootstrap
from services.syncer.schedule import run_schedule
from services.syncer.settings import SyncerSettings
from shared.background import end
from shared.events import catalog
from shared.lifecycle import instance_name, stop_signal
from shared.observability.health import Check, serve_health
from shared.observability.logging import configure_logging
from shared.observability.tracing import traced
from shared.storage.partitions import PartitionRepository
from shared.streams.ordering.worker import Ordering
from shared.streams.workers import AnyWorker, open_workers

log = structlog.get_logger(__name__)


async def main() -> None:
    """Read the settings and run until SIGTERM or SIGINT."""
    settings = SyncerSettings.load()
    name = instance_name(catalog.SYNCER)
    configure_logging(settings.observability, service=catalog.SYNCER, instance=name)
    with traced(settings.observability, service=catalog.SYNCER, instance=name):
        async with stop_signal() as stop, bootstrap(settings) as context:
            await run(context, settings, stop, name=name)


async def run(
    context: SyncerContext,
    settings: SyncerSettings,
    stop: asyncio.Event,
    *,
    name: str | None = None,
) -> None:
    """Run until `stop` is set and everything in flight has ended."""
    name = name or instance_name(catalog.SYNCER)
    opening = open_workers(
        context.redis,
        context.subscriptions,
        streams=settings.streams,
        dead_letters=context.dead_letters,
        settings=settings.consumer,
        name=name,
        stop=stop,
        ordering=Ordering(
            store=PartitionRepository(context.database), divisions=context.divisions, name=name
        ),
    )
    async with opening as workers, serve_health(settings.observability, _checks(context, workers)):
        async with asyncio.TaskGroup() as tasks:
            schedule = tasks.create_task(_schedule(context, settings), name="schedule")
            for worker in workers:
                tasks.create_task(worker.run(), name=f"worker {worker.stream}")
            log.info("syncer.started", consumer=name, cron=settings.sync.sync_cron)
            await stop.wait()
            await end(schedule)
        log.info("syncer.stopped")


async def _schedule(context: SyncerContext, settings: SyncerSettings) -> None:
    if settings.sync.sync_enabled:
        await run_schedule(settings.sync.sync_cron, context.once)


def _checks(context: SyncerContext, workers: Sequence[AnyWorker]) -> dict[str, Check]:
    checks: dict[str, Check] = {worker.stream: worker.check for worker in workers}
    checks["postgres"] = context.database.ping
    return checks
