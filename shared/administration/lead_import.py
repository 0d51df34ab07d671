"""Importing leads: each row becomes a lead-created event like a client's."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from shared.administration.lead_files import Row
from shared.domain.lead import LeadSource
from shared.events.envelope import Event, new_id
from shared.events.lead_events import LeadCreated
from shared.events.lead_fields import LeadFields
from shared.events.outcome import OutcomeStatus
from shared.storage.event_store import EventStore
from shared.storage.pool import Database
from shared.streams.publisher import add_events

BATCH = 500
PATIENCE = timedelta(seconds=60)
POLL = timedelta(milliseconds=20)


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """What became of the rows of a file so far.

    `unknown` leads were not applied in time: they wait in the stream, or were parked.
    """

    rows: int = 0
    created: int = 0
    duplicate: int = 0
    invalid: int = 0
    unknown: int = 0


class LeadImport:
    """Raises `UnavailableError` when Redis or PostgreSQL is down."""

    def __init__(
        self, redis: Redis, database: Database, *, imported_by: str, patience: timedelta = PATIENCE
    ) -> None:
        self._redis = redis
        self._events = EventStore(database)
        self._imported_by = imported_by
        self._patience = patience
        self._correlation_id = str(new_id())

    async def run(
        self,
        rows: Iterable[Row],
        *,
        refuse: Callable[[Row], None],
        watch: Callable[[ImportReport], None],
    ) -> ImportReport:
        """Create the leads of good rows, batch by batch, and pass the bad rows to `refuse`.

        Ends early when nobody applies what is added: the stream is not there to be filled.
        """
        return await _sort_out(rows, self._create, refuse=refuse, watch=watch)

    async def _create(self, leads: Sequence[LeadFields], report: ImportReport) -> None:
        events = [self._event(lead) for lead in leads]
        await add_events(self._redis, events)
        give_up = time.monotonic() + self._patience.total_seconds()
        while True:
            outcomes = await self._events.outcomes([event.id for event in events])
            if len(outcomes) == len(events) or time.monotonic() > give_up:
                break
            await asyncio.sleep(POLL.total_seconds())
        created = sum(outcome == OutcomeStatus.CREATED for outcome in outcomes.values())
        report.created += created
        report.duplicate += len(outcomes) - created
        report.unknown += len(events) - len(outcomes)

    def _event(self, lead: LeadFields) -> Event:
        lead_id = new_id()
        data = LeadCreated(
            lead_id=lead_id, source=LeadSource.IMPORT, created_by=self._imported_by, lead=lead
        )
        return Event(
            source="ops", subject=str(lead_id), correlation_id=self._correlation_id, data=data
        )


async def check_rows(
    rows: Iterable[Row],
    *,
    refuse: Callable[[Row], None],
    watch: Callable[[ImportReport], None],
) -> ImportReport:
    """Do as an import does, without creating anything."""

    async def nothing(_leads: Sequence[LeadFields], _report: ImportReport) -> None:
        pass

    return await _sort_out(rows, nothing, refuse=refuse, watch=watch)


async def _sort_out(
    rows: Iterable[Row],
    create: Callable[[Sequence[LeadFields], ImportReport], Awaitable[None]],
    *,
    refuse: Callable[[Row], None],
    watch: Callable[[ImportReport], None],
) -> ImportReport:
    report = ImportReport()
    good = _good(rows, report, refuse)
    while batch := list(itertools.islice(good, BATCH)):
        await create(batch, report)
        watch(report)
        if report.unknown:
            break
    return report


def _good(
    rows: Iterable[Row], report: ImportReport, refuse: Callable[[Row], None]
) -> Iterator[LeadFields]:
    for row in rows:
        report.rows += 1
        if row.lead is None:
            report.invalid += 1
            refuse(row)
        else:
            yield row.lead
