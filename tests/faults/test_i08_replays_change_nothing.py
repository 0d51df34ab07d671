"""I8: a replay changes no final state, sends no reply, and calls no model unless asked to."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import pytest
from redis.asyncio import Redis

from shared.administration.replays import Replays
from shared.events import catalog
from shared.events.data import LeadCreated, SummaryRequested
from shared.events.envelope import Event
from shared.events.replay import ReplayOrder, ReplayOrigin
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from shared.streams.replays.jobs import ReplayProgress
from tests.faults.altered import (
    Wrap,
    altered_summarizer,
    altered_syncer,
    syncer_settings,
    unaltered,
)
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.defects import ForgetsEvents, ForgetsReplays
from tests.faults.scale import scaled
from tests.faults.streams import drained, leads_drained
from tests.support.builders import lead_created
from tests.support.summaries import Says
from tests.support.summarizer import summarizer_settings

LEADS = scaled(800, 50_000)
SUMMARIES = scaled(40, 1_000)
TIMES = 2
CHUNK = 1_000
REPLIES = "reply:tests"
PATIENCE = timedelta(seconds=60)
FLOWS = ((catalog.LEADS, catalog.SYNCER), (catalog.SUMMARIES, catalog.SUMMARIZER))


@dataclass(frozen=True, slots=True)
class History:
    """A system in which something has happened, and may be replayed."""

    redis: Redis
    database: Database
    postgres: PostgresSettings
    streams: StreamsSettings
    model: Says

    @property
    def tables(self) -> Tables:
        """What came of it."""
        return Tables(self.postgres.dsn)

    @asynccontextmanager
    async def services(self, wrap: Wrap = unaltered) -> AsyncGenerator[None]:
        """Run a syncer and a summarizer."""
        summarizing = summarizer_settings(self.postgres, self.streams)
        async with (
            altered_syncer(syncer_settings(self.postgres, self.streams), wrap),
            altered_summarizer(summarizing, wrap, provider=self.model),
        ):
            yield

    async def happens(self, leads: int, summaries: int) -> None:
        """Create leads and have some summarised, answering to somebody."""
        created = [lead_created(reply_to=REPLIES) for _ in range(leads)]
        async with self.services():
            await self._publish(created)
            await leads_drained(self.redis, self.tables, within=PATIENCE)
            await self._publish([_summary_of(event) for event in created[:summaries]])
            await drained(self.redis, stream=catalog.SUMMARIES, within=PATIENCE)
        await self.redis.delete(REPLIES)

    async def check_replay(self, origin: ReplayOrigin) -> int:
        """Replay everything, with services running; fail if that makes a difference.

        Returns how many events were replayed.
        """
        before, calls = await self.tables.fingerprint(), self.model.calls
        replayed = [await self._replay(origin, *flow) for flow in FLOWS]
        assert await self.tables.fingerprint() == before, "final states have changed"
        assert self.model.calls == calls, f"the model was called {self.model.calls - calls} times"
        assert not await self.redis.exists(REPLIES), "replies were sent"
        return sum(progress.settled for progress in replayed)

    async def _replay(self, origin: ReplayOrigin, stream: str, group: str) -> ReplayProgress:
        replays = Replays(self.redis, self.database)
        order = await replays.bounded(ReplayOrder(origin=origin, stream=stream, group=group))
        await replays.jobs.save(order)
        replayer = replays.replayer(order, stop=asyncio.Event(), watch=_ignore)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await replayer.run()

    async def _publish(self, events: Sequence[Event]) -> None:
        for start in range(0, len(events), CHUNK):
            await add_events(self.redis, events[start : start + CHUNK])


def _summary_of(created: Event) -> Event:
    lead_id = cast("LeadCreated", created.data).lead_id
    data = SummaryRequested(lead_id=lead_id, regenerate=True)
    return Event(source="tests", subject=str(lead_id), reply_to=REPLIES, data=data)


def _ignore(_progress: ReplayProgress) -> None:
    """Nobody looks on."""


@pytest.fixture
def history(
    redis: Redis,
    database: Database,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> History:
    return History(redis, database, postgres_settings, streams_settings, Says())


async def test_replays_change_nothing(history: History, figure: Figure) -> None:
    await history.happens(LEADS, SUMMARIES)
    replayed = 0
    async with history.services():
        for origin in [ReplayOrigin.ARCHIVE, ReplayOrigin.STREAM] * (TIMES // 2):
            replayed += await history.check_replay(origin)
    assert replayed == TIMES * (LEADS + SUMMARIES)
    figure(
        f"{LEADS:,} leads and {SUMMARIES:,} summaries replayed {TIMES} times: "
        "the same tables, 0 replies, 0 calls"
    )


@pytest.mark.parametrize(
    ("defect", "symptom"),
    [(ForgetsEvents, "final states have changed"), (ForgetsReplays, "final states|model")],
)
async def test_control_handlers_that_forget_make_a_difference(
    defect: Wrap, symptom: str, history: History, figure: Figure
) -> None:
    await history.happens(20, 5)
    async with history.services(defect):
        with pytest.raises(AssertionError, match=symptom) as failed:
            await history.check_replay(ReplayOrigin.STREAM)
    figure(f"{defect.__name__}: {str(failed.value).splitlines()[0]}")
