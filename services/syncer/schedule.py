"""The schedule: at each tick every replica asks for a sync, and one request is made of it."""

import itertools
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

import aiocron
import structlog
from cronsim import CronSim

from shared.events.data import SyncRequested
from shared.events.envelope import Event
from shared.observability.logging import error_fields
from shared.observability.metrics import gauge
from shared.streams.publisher import OncePublisher

log = structlog.get_logger(__name__)

_EXPECTED = gauge(
    "leads_sync_expected_timestamp_seconds",
    "The last tick of the schedule but two: a sync should have succeeded since. 0 without a "
    "schedule.",
)
FEW_TICKS = 3


async def run_schedule(cron: str, publisher: OncePublisher) -> None:
    """Publish a sync-requested event at each tick of `cron` (UTC), forever."""
    _EXPECTED.set_function(lambda: expected_since(cron, datetime.now(UTC)).timestamp())
    async for tick in ticks(cron):
        try:
            await request_sync(tick, publisher)
        except Exception as error:  # noqa: BLE001 (whatever the server says)
            # The next tick is a new chance; what the source offers then is as good.
            log.warning("tick.missed", tick=tick.isoformat(), **error_fields(error))


def expected_since(cron: str, now: datetime) -> datetime:
    """Return since when a sync should have succeeded: one that fails is tried again by the next."""
    *_, tick = itertools.islice(CronSim(cron, now, reverse=True), FEW_TICKS)
    return tick


async def ticks(cron: str) -> AsyncGenerator[datetime]:
    """Yield each tick's time when it comes."""
    last: datetime | None = None
    while True:
        # The planned time names the tick: the clocks of the replicas agree on nothing else.
        # Planned anew each time, since the wall clock may have been set in between.
        tick = next(CronSim(cron, datetime.now(UTC)))
        await aiocron.crontab(cron, start=False, tz=UTC).next()
        if tick != last:  # the loop's clock may wake us a moment before the wall clock's tick
            last = tick
            yield tick


async def request_sync(tick: datetime, publisher: OncePublisher) -> None:
    """Publish this tick's request unless another replica has; raises `UnavailableError`."""
    name = f"sync-tick:{tick.isoformat()}"
    event = Event(
        id=uuid5(NAMESPACE_URL, name),
        source="syncer",
        subject="sync",
        time=tick,
        data=SyncRequested(requested_by="schedule"),
    )
    await publisher.publish(name, [event])
