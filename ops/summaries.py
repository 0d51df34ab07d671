"""Asking for the summaries of leads that have none."""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import NAMESPACE_URL, UUID, uuid5

from ops.running import Servers
from shared.events import catalog
from shared.events.envelope import Event
from shared.events.summary_events import SummaryRequested
from shared.storage.summary_backfill import FIRST, SummaryBackfill
from shared.streams.inspection import Inspector
from shared.streams.publisher import add_events

# More than these would only wait in the stream, in front of people's requests.
MOST_WAITING = 50
LOOK_AGAIN = timedelta(milliseconds=200)


async def request_summaries(
    servers: Servers, backfill: SummaryBackfill, *, job: str, rate: float, limit: int | None
) -> AsyncGenerator[int]:
    """Publish requests, `rate` a second at most; yields how many there were so far.

    A request's id comes from the job and the lead, so that a job that was stopped goes on
    where it was when it is run again, and asks for nothing twice.
    """
    inspector = Inspector(servers.redis)
    after, asked, started = FIRST, 0, time.monotonic()
    while limit is None or asked < limit:
        page = await backfill.page(after=after, limit=MOST_WAITING)
        for lead_id in page[: None if limit is None else limit - asked]:
            await _until_few_wait(inspector)
            await asyncio.sleep(max(0.0, started + asked / rate - time.monotonic()))
            await add_events(servers.redis, [_request(lead_id, job=job)])
            asked += 1
            yield asked
        if not page:
            return
        after = page[-1]


async def _until_few_wait(inspector: Inspector) -> None:
    while True:
        if await _waiting(inspector) < MOST_WAITING:
            return
        await asyncio.sleep(LOOK_AGAIN.total_seconds())


async def _waiting(inspector: Inspector) -> int:
    """Return how many requests the summarizers have yet to finish; all, when nobody can tell."""
    stream = await inspector.look(catalog.SUMMARIES)
    lags = [group.lag for group in stream.groups if group.name == catalog.SUMMARIZER]
    return sum(stream.length if lag is None else lag for lag in lags)


def _request(lead_id: UUID, *, job: str) -> Event:
    return Event(
        id=uuid5(NAMESPACE_URL, f"summaries-backfill:{job}:{lead_id}"),
        source="ops",
        subject=str(lead_id),
        correlation_id=job,
        data=SummaryRequested(lead_id=lead_id, background=True),
    )
