"""sync-requested: fetch leads from the external source and publish each as lead-created."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from services.syncer.sources import ExternalSource, Fetched
from shared.background import Backoff
from shared.domain.errors import TransientError
from shared.events.data import LeadCreated, SyncRequested
from shared.events.envelope import Event, new_id
from shared.events.lead_fields import LeadFields
from shared.events.outcome import Outcome, OutcomeStatus
from shared.observability.metrics import counter
from shared.storage.sync_runs import SyncRunRepository
from shared.streams.publisher import OncePublisher

log = structlog.get_logger(__name__)

_RUNS = counter(
    "leads_sync_runs_total",
    "Runs of the sync by how they ended, up to the publication of what was fetched.",
    ["result"],
    start=[["published"], ["failed"]],
)

TRIES = 3


class SyncRequestedHandler:
    """Runs one sync per event, however often and wherever the event is delivered."""

    def __init__(
        self,
        source: ExternalSource,
        publisher: OncePublisher,
        runs: SyncRunRepository,
        *,
        results: int,
        timeout: timedelta,
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._runs = runs
        self._results = results
        self._timeout = timeout

    async def __call__(self, events: Sequence[Event[SyncRequested]]) -> Sequence[Outcome]:
        """Run each event's sync, up to the publication of its leads."""
        return [await self._run(event) for event in events]

    async def _run(self, event: Event[SyncRequested]) -> Outcome:
        requested_by = event.data.requested_by
        if not await self._runs.begin(event.id, requested_by=requested_by):
            return Outcome(OutcomeStatus.SYNCED)
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                fetched = await self._fetch()
        except (TransientError, TimeoutError) as error:
            reason = str(error) or "the source did not answer in time"
            await self._runs.finish(event.id, error=reason, counted_within=self._timeout)
            _RUNS.labels("failed").inc()
            self._log("leads.not_synced", event, started, error=reason)
            return Outcome(OutcomeStatus.FAILED)
        published = await self._publish(event, fetched.leads)
        invalid = len(fetched.problems)
        await self._runs.finish(event.id, published, invalid=invalid, counted_within=self._timeout)
        for problem in fetched.problems:
            log.warning("lead.invalid", source=self._source.name, problem=problem)
        _RUNS.labels("published").inc()
        self._log("leads.synced", event, started, published=len(published), invalid=invalid)
        return Outcome(OutcomeStatus.SYNCED)

    async def _publish(self, event: Event, leads: Sequence[LeadFields]) -> list[UUID]:
        # Another replica that takes this run for dead may have fetched other leads: the first
        # to publish under the run's name has made the run, and both report on the same leads.
        created = [_lead_created(event, lead, self._source.name) for lead in leads]
        published = await self._publisher.publish(f"sync:{event.id}", created)
        return [UUID(event_id) for event_id in published]

    def _log(
        self, name: str, event: Event[SyncRequested], started: float, **figures: str | int
    ) -> None:
        log.info(
            name,
            run_id=str(event.id),
            source=self._source.name,
            requested_by=event.data.requested_by,
            seconds=round(time.monotonic() - started, 3),
            **figures,
        )

    async def _fetch(self) -> Fetched:
        first, longest = timedelta(seconds=1), timedelta(seconds=5)
        async for _ in Backoff(first=first, longest=longest, rounds=TRIES - 1):
            try:
                return await self._source.fetch(self._results)
            except TransientError as error:
                log.warning("source.retried", source=self._source.name, error=str(error))
        return await self._source.fetch(self._results)


def _lead_created(run: Event, lead: LeadFields, source: str) -> Event:
    lead_id = new_id()
    return Event(
        source="syncer",
        subject=str(lead_id),
        correlation_id=run.correlation_id or str(run.id),
        data=LeadCreated(lead_id=lead_id, source=source, lead=lead),
    )
