"""I18: a replay into an empty table makes the same leads, versions included."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis

from shared.administration.replays import Replays
from shared.events import catalog
from shared.events.data import SummaryRequested
from shared.events.envelope import Event, new_id
from shared.events.replay import ReplayOrder, ReplayOrigin
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from shared.streams.replays.jobs import ReplayProgress
from shared.streams.replays.tally import ReplayResult
from tests.faults.altered import altered_summarizer, altered_syncer, syncer_settings, unaltered
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.scale import scaled
from tests.support.builders import (
    lead_created,
    lead_deleted,
    lead_fields,
    lead_updated,
    lead_upserted,
)
from tests.support.eventually import eventually
from tests.support.summaries import Says
from tests.support.summarizer import summarizer_settings

LEADS = scaled(300, 20_000)
TIMES = scaled(2, 10)
FEW = 60
SYNCERS = 3
CHUNK = 1_000
PATIENCE = timedelta(minutes=5)

_ENDED = "SELECT count(*) FROM leads.event WHERE id = ANY(%s) AND outcome <> 'accepted'"
_HASH = "SELECT md5(string_agg(lead::text, E'\\n' ORDER BY id)) FROM leads.lead"
# Without the times of changes.
_DIFFERENT = """
    SELECT count(*) FROM (
        SELECT to_jsonb(before) - '{created_at,updated_at}'::text[] FROM before
        EXCEPT SELECT to_jsonb(lead) - '{created_at,updated_at}'::text[] FROM leads.lead
    ) AS other
"""
# The clock was set back while these things happened, and the archive goes by it.
_GO_BY_TIME = """
    WITH late AS MATERIALIZED (
        UPDATE leads.event SET recorded_at = recorded_at - interval '1 hour'
        WHERE position > (SELECT avg(position) FROM leads.event)
        RETURNING id, recorded_at
    ), placed AS (
        SELECT event.id, row_number() OVER (
            ORDER BY coalesce(late.recorded_at, event.recorded_at), event.id
        ) AS place
        FROM leads.event LEFT JOIN late USING (id)
    )
    SELECT id, place FROM placed
"""


@dataclass(frozen=True, slots=True)
class History:
    """A system in which leads have changed in every way."""

    redis: Redis
    database: Database
    postgres: PostgresSettings
    streams: StreamsSettings

    @property
    def tables(self) -> Tables:
        """What came of it."""
        return Tables(self.postgres.dsn)

    @asynccontextmanager
    async def services(self) -> AsyncGenerator[None]:
        """Run syncers that share the work, and a summarizer."""
        settings = syncer_settings(self.postgres, self.streams)
        summarizing = summarizer_settings(self.postgres, self.streams)
        async with AsyncExitStack() as stack:
            for _ in range(SYNCERS):
                await stack.enter_async_context(altered_syncer(settings, unaltered))
            await stack.enter_async_context(
                altered_summarizer(summarizing, unaltered, provider=Says())
            )
            yield

    async def happens(self, leads: int) -> None:
        """Let leads be made and changed, and note what came of it."""
        for events in waves(leads):
            for start in range(0, len(events), CHUNK):
                await add_events(self.redis, events[start : start + CHUNK])
            await eventually(partial(self._have_ended, events), within=PATIENCE)
        await self.execute("CREATE TABLE before AS SELECT * FROM leads.lead")

    async def _have_ended(self, events: Sequence[Event]) -> bool:
        ids = [event.id for event in events]
        return bool(await self.tables.value(_ENDED, ids) == len(ids))

    async def check_rebuild(self) -> int:
        """Lose all leads and replay the archive; fail if that makes a difference.

        Returns how many events were replayed.
        """
        before = await self.tables.value(_HASH.replace("leads.lead", "before AS lead"))
        await self.execute("TRUNCATE leads.lead CASCADE")
        progress = await self._replay()
        different = await self.tables.value(_DIFFERENT)
        assert different == 0, f"{different} leads are not what they were"
        assert await self.tables.value(_HASH) == before, "leads have other times than they had"
        ends = progress.results.get(ReplayResult.APPLIED, 0)
        assert ends == await self.tables.value("SELECT count(*) FROM leads.lead")
        assert progress.outstanding == 0
        return progress.added

    async def _replay(self) -> ReplayProgress:
        replays = Replays(self.redis, self.database)
        order = await replays.bounded(
            ReplayOrder(origin=ReplayOrigin.ARCHIVE, stream=catalog.LEADS, group=catalog.SYNCER)
        )
        await replays.jobs.save(order)
        replayer = replays.replayer(order, stop=asyncio.Event(), watch=_ignore)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await replayer.run()

    async def execute(self, statement: str, *parameters: Any) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement, *parameters)


def waves(leads: int) -> Iterator[Sequence[Event]]:
    """Yield events, each wave of which needs the one before it."""
    made = [_made(number) for number in range(leads)]
    keys = {event.subject: event.key for event in made}

    def about(events: Sequence[Event]) -> list[Event]:
        return [replace(event, partition_key=keys[event.subject]) for event in events]

    ids = [event.subject for event in made]
    yield made
    yield about(
        [
            *(lead_updated(lead_id, city="Oslo") for lead_id in ids[::2]),
            *(lead_updated(lead_id, status="contacted") for lead_id in ids[::4]),
        ]
    )
    yield [_summary_of(lead_id) for lead_id in ids[::10]]
    # The first of three gives its address to the second, and that one its own to the third.
    trios = [ids[place : place + 3] for place in range(0, leads - 2, 6)]
    yield about([lead_updated(one, email=f"free-{one}@example.com") for one, _, _ in trios])
    yield about([lead_updated(two, email=f"{one}@example.com") for one, two, _ in trios])
    yield about(
        [
            *(lead_updated(three, email=f"{two}@example.com") for _, two, three in trios),
            *(lead_updated(one, external_id=new_id()) for one, _, _ in trios[::2]),
        ]
    )
    yield about([lead_updated(lead_id, city="Rome", phone=None) for lead_id in ids[::20]])
    yield [_summary_of(lead_id) for lead_id in ids[::40]]
    yield about([lead_deleted(lead_id) for lead_id in ids[::17]])
    # Addresses that are free again go to new leads.
    yield [
        lead_created(lead_fields(email=f"free-{lead_id}@example.com"))
        for lead_id, _, _ in trios[::17]
    ]


def _made(number: int) -> Event:
    event = lead_created() if number % 4 else lead_upserted(new_id(), email="a@example.com")
    lead = event.data.lead.model_copy(update={"email": f"{event.subject}@example.com"})  # type: ignore[attr-defined]  # a creation's
    return replace(event, data=event.data.model_copy(update={"lead": lead}))


def _summary_of(lead_id: str) -> Event:
    data = SummaryRequested(lead_id=UUID(lead_id), regenerate=True)
    return Event(source="tests", subject=lead_id, data=data)


def _ignore(_progress: ReplayProgress) -> None:
    """Nobody looks on."""


@pytest.fixture
def history(
    redis: Redis,
    database: Database,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> History:
    return History(redis, database, postgres_settings, streams_settings)


async def test_replays_rebuild_every_lead(history: History, figure: Figure) -> None:
    async with history.services():
        await history.happens(LEADS)
        replayed = [await history.check_rebuild() for _ in range(TIMES)]
    figure(
        f"{LEADS:,} leads made by {replayed[0]:,} events, lost and replayed {TIMES} times with "
        f"{SYNCERS} syncers: the same hash each time"
    )


@pytest.mark.long
async def test_control_an_archive_in_the_order_of_a_clock_rebuilds_others(
    history: History, figure: Figure
) -> None:
    async with history.services():
        await history.happens(FEW)
        async with history.database.transaction() as connection:
            places = await connection.fetch(_GO_BY_TIME)
            # Beyond all that there are, so that none is taken.
            await connection.executemany(
                "UPDATE leads.event SET position = 1000000000 + $2 WHERE id = $1",
                [(row["id"], row["place"]) for row in places],
            )
        with pytest.raises(AssertionError, match="leads are not what they were") as failed:
            await history.check_rebuild()
    figure(f"order by recorded_at: {str(failed.value).splitlines()[0]}")
