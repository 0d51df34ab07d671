"""sync-requested: fetch leads from the external source and publish each as lead-created."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from uuid import UUID

import orjson
import structlog

from services.syncer.sources import ExternalSource, Fetched
from shared.background import Backoff
from shared.domain.errors import TransientError
from shared.events.envelope import Event, new_id
from shared.events.lead_events import LeadCreated, SyncRequested
from shared.events.lead_fields import LeadFields
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventStore
from shared.storage.sync_run_repository import SyncReport, SyncRunRepository
from shared.streams.publisher import OncePublisher

log = structlog.get_logger(__name__)

TRIES = 3
POLL = timedelta(milliseconds=100)


class SyncRequestedHandler:
    """Runs one sync per event, however often and wherever the event is delivered."""

    def __init__(
        self,
        source: ExternalSource,
        publisher: OncePublisher,
        runs: SyncRunRepository,
        events: EventStore,
        *,
        results: int,
        timeout: timedelta,
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._runs = runs
        self._events = events
        self._results = results
        self._timeout = timeout

    async def __call__(self, events: Sequence[Event[SyncRequested]]) -> Sequence[Outcome]:
        """Run each event's sync; the outcome's body is the report."""
        return [await self._run(event) for event in events]

    async def _run(self, event: Event[SyncRequested]) -> Outcome:
        requested_by = event.data.requested_by
        if not await self._runs.begin(event.id, requested_by=requested_by):
            return Outcome(OutcomeStatus.SYNCED)
        started = time.monotonic()
        report = await self._sync(event)
        await self._runs.finish(event.id, report)
        log.info(
            "leads.synced" if report.error is None else "leads.not_synced",
            run_id=str(event.id),
            source=self._source.name,
            requested_by=requested_by,
            seconds=round(time.monotonic() - started, 3),
            **asdict(report),
        )
        status = OutcomeStatus.SYNCED if report.error is None else OutcomeStatus.FAILED
        return Outcome(status, orjson.dumps(asdict(report)))

    async def _sync(self, event: Event[SyncRequested]) -> SyncReport:
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                fetched = await self._fetch()
        except (TransientError, TimeoutError) as error:
            return SyncReport(error=str(error) or "the source did not answer in time")
        for problem in fetched.problems:
            log.warning("lead.invalid", source=self._source.name, problem=problem)
        created = [_lead_created(event, lead, self._source.name) for lead in fetched.leads]
        # Another replica that takes this run for dead may have fetched other leads: the first
        # to publish under the run's name has made the run, and both report on the same leads.
        published = await self._publisher.publish(f"sync:{event.id}", created)
        counted = await self._count([UUID(event_id) for event_id in published])
        invalid = len(fetched.problems)
        return replace(counted, fetched=len(published) + invalid, invalid=invalid)

    async def _fetch(self) -> Fetched:
        first, longest = timedelta(seconds=1), timedelta(seconds=5)
        async for _ in Backoff(first=first, longest=longest, rounds=TRIES - 1):
            try:
                return await self._source.fetch(self._results)
            except TransientError as error:
                log.warning("source.retried", source=self._source.name, error=str(error))
        return await self._source.fetch(self._results)

    async def _count(self, event_ids: Sequence[UUID]) -> SyncReport:
        give_up = time.monotonic() + self._timeout.total_seconds()
        while True:
            outcomes = await self._events.outcomes(event_ids)
            if len(outcomes) == len(event_ids) or time.monotonic() > give_up:
                break
            await asyncio.sleep(POLL.total_seconds())
        created = sum(outcome == OutcomeStatus.CREATED for outcome in outcomes.values())
        return SyncReport(
            created=created,
            duplicate=len(outcomes) - created,
            unknown=len(event_ids) - len(outcomes),
        )


def _lead_created(run: Event, lead: LeadFields, source: str) -> Event:
    lead_id = new_id()
    return Event(
        source="syncer",
        subject=str(lead_id),
        correlation_id=run.correlation_id or str(run.id),
        data=LeadCreated(lead_id=lead_id, source=source, lead=lead),
    )
