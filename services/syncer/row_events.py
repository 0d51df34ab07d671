"""The rows of a file as events about leads, applied around the stream or through it."""

import asyncio
import contextlib
import math
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast
from uuid import UUID

import orjson
import structlog

from services.syncer.imports import LANES, WINDOW, RowEnd
from services.syncer.storage.imports import ImportRepository
from shared.batcher import Slices
from shared.domain.errors import UnavailableError
from shared.domain.lead import LeadSource, in_turns
from shared.domain.lead_file import ImportMode
from shared.events.catalog import LEADS, SYNCER
from shared.events.data import (
    LeadCreated,
    LeadUpdated,
    LeadUpserted,
    row_event_id,
    row_lead_id,
    under_key,
)
from shared.events.envelope import Event, EventData
from shared.events.lead_fields import GivenLead, LeadChanges, LeadFields
from shared.events.outcome import Outcome, OutcomeStatus
from shared.lead_files import Row
from shared.observability import tracing
from shared.observability.logging import describe_error
from shared.storage.inbox import EventStore
from shared.storage.lead_document import LeadRepository
from shared.storage.partitions import unfenced
from shared.streams.codec import Entry
from shared.streams.consuming.settlement import Delivery, note_applied
from shared.streams.consuming.subscription import Handler
from shared.streams.imports import ImportJobs

log = structlog.get_logger(__name__)

# While events of clients come in too these wait for so many at least, or for so long. They count as
# coming in for a while after each.
SHARED_BATCH, SHARED = 25, timedelta(milliseconds=15)
SHARED_AFTER = timedelta(milliseconds=500)
POLL = timedelta(milliseconds=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """An import, as far as its events say something of it."""

    id: UUID
    mode: ImportMode
    created_by: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class _Look:
    """What was in the stream: keys that rows come behind, and where rows count as accepted.

    `is_shared` says whether others' events come in too.
    """

    behind: set[str]
    accepted: str
    is_shared: bool


class RowEvents:
    """Writes rows as events about leads, in large batches.

    A row's event has the same id however often the row is read, so it has one effect and one
    outcome. It is applied at once by the handler of its type, one of `handlers`. Where an event
    with its key waits in the stream it has to come after that one, and goes there; so does what
    cannot be applied, to be tried again, held back or parked like any other event.
    """

    def __init__(
        self,
        jobs: ImportJobs,
        imports: ImportRepository,
        events: EventStore,
        leads: LeadRepository,
        of: Import,
        *,
        handlers: Mapping[str, Handler],
        timeout: timedelta,
    ) -> None:
        self._jobs = jobs
        self._imports = imports
        self._events = events
        self._leads = leads
        self._of = of
        self._handlers = handlers
        self._seconds = timeout.total_seconds()
        self._shared = Slices(least=SHARED_BATCH, most=WINDOW)
        self._sharing = asyncio.Lock()
        self._shared_until = -math.inf
        self._newest: str | None = None
        # Windows that may have been written before.
        self._looks = LANES

    async def write(self, rows: Sequence[Row]) -> list[RowEnd | None]:
        """Write good rows, and return their ends; None for those not applied in time."""
        numbers = {row_event_id(self._of.id, row.number): row for row in rows}
        ends = await self._earlier(list(numbers))
        # Of rows with one e-mail address the first wins, in whichever partitions they are.
        turns = in_turns((id_, cast("LeadFields", row.lead).email) for id_, row in numbers.items())
        for number, turn in enumerate(turns):
            window = f"{rows[-1].number}.{number}"
            ends |= await self._write_turn(
                {event_id: numbers[event_id] for event_id in turn}, ends, window=window
            )
            if not ends.keys() >= set(turn):
                break
        return [ends.get(event_id) for event_id in numbers]

    async def holders(self, rows: Sequence[Row]) -> Collection[UUID]:
        """Return who has the rows' e-mail addresses, where another row may take them away."""
        if self._of.mode is ImportMode.CREATE or not rows:
            return ()
        return await self._imports.find_holders(
            [cast("LeadFields", row.lead).email for row in rows]
        )

    async def _earlier(self, event_ids: Sequence[UUID]) -> dict[UUID, RowEnd]:
        """Return the ends of rows that were written before: by a process that died meanwhile.

        It had no more windows under way than go side by side.
        """
        if not self._looks:
            return {}
        self._looks -= 1
        ends = await self._ends(event_ids)
        if ends:
            self._looks = LANES
        return ends

    async def _write_turn(
        self, rows: Mapping[UUID, Row], known: Mapping[UUID, RowEnd], *, window: str
    ) -> dict[UUID, RowEnd]:
        """Return the ends of rows, none of which is to be before another one's."""
        look = await self._look()
        events = await self._made(rows, accepted=None if look is None else look.accepted)
        # One that is applied may not be followed up yet. One that is parked is an operator's.
        parked = {id_ for id_, end in known.items() if end.status is OutcomeStatus.DEAD}
        outcomes = {}
        if look is not None:
            outcomes = await self._apply([one for one in events if one.id not in parked], look)
        ends = {
            event_id: _row_end(outcome)
            for event_id, outcome in outcomes.items()
            if outcome.status is not OutcomeStatus.FORWARDED and not outcome.repeated
        }
        left = [one for one in events if one.id not in outcomes and one.id not in known]
        if left:
            entries = [replace(one, accepted=None) for one in left]  # they get a place of their own
            await self._jobs.offer(self._of.id, window=window, events=entries)
        waiting = [one.id for one in events if one.id not in ends and one.id not in known]
        return ends | await self._wait(waiting)

    async def _look(self) -> _Look | None:
        """Look what is in the stream; None when rows have to go there themselves."""
        if not self._handlers:
            return None
        known = await self._jobs.waiting()
        if known is None:
            return None
        waiting, accepted = known
        behind = {*waiting, *await self._imports.held_keys(LEADS)}
        is_shared = self._is_shared(accepted, any_waiting=bool(waiting))
        return _Look(behind, accepted, is_shared)

    async def _apply(self, events: Sequence[Event], look: _Look) -> dict[UUID, Outcome]:
        """Apply what nothing in the stream is before; returns the outcomes by event id."""
        outcomes: dict[UUID, Outcome] = {}
        for round_ in _rounds(events):
            free = [event for key, event in round_ if key not in look.behind]
            applied = await (self._apply_shared(free) if look.is_shared else self._try(free))
            look.behind.update(key for key, event in round_ if event.id not in applied)
            outcomes |= applied
        return outcomes

    def _is_shared(self, accepted: str, *, any_waiting: bool) -> bool:
        """Return whether others' events wait, or came lately."""
        if any_waiting or accepted != (self._newest or accepted):
            self._shared_until = time.monotonic() + SHARED_AFTER.total_seconds()
        self._newest = accepted
        return time.monotonic() < self._shared_until

    async def _apply_shared(self, events: Sequence[Event]) -> dict[UUID, Outcome]:
        """Apply events in slices, between which others get as much of this process."""
        outcomes: dict[UUID, Outcome] = {}
        rest = list(events)
        while rest:
            async with self._sharing:
                batch = rest[: self._shared.size(aim=SHARED)]
                del rest[: len(batch)]
                begun = time.monotonic()
                with self._shared.timed(len(batch)):
                    outcomes |= await self._try(batch)
                await asyncio.sleep(time.monotonic() - begun)
        return outcomes

    async def _try(self, events: Sequence[Event]) -> dict[UUID, Outcome]:
        """Apply events of one type and of different keys; no outcomes where that fails."""
        if not events:
            return {}
        try:
            return await self._apply_batch(events)
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 (the stream's runtime decides what follows)
            log.warning("rows.published", rows=len(events), error=describe_error(error))
            return {}

    async def _apply_batch(self, events: Sequence[Event]) -> dict[UUID, Outcome]:
        tracer, entry_id = tracing.tracer, f"{time.time_ns() // 1_000_000}-0"
        with contextlib.ExitStack() as traces:
            if tracer is not None:
                events = traces.enter_context(tracer.sending_many(events))
            place = f"import:{self._of.id}"
            run = [Delivery(place, _entry(entry_id, event), event) for event in events]
            log.info("event.accepted", each=[{**one.ids, "partition": one.stream} for one in run])
            if tracer is not None:
                traces.enter_context(tracer.processing(run, group=SYNCER))
            with unfenced():
                outcomes = await self._handlers[events[0].type](events)
            note_applied(run, outcomes, stream=LEADS, group=SYNCER, since=time.time_ns())
        return {event.id: outcome for event, outcome in zip(events, outcomes, strict=True)}

    async def _wait(self, event_ids: Sequence[UUID]) -> dict[UUID, RowEnd]:
        if not event_ids:
            return {}
        ends = await self._ends(event_ids)
        give_up = time.monotonic() + self._seconds
        missing = [event_id for event_id in event_ids if event_id not in ends]
        while missing and time.monotonic() < give_up:
            await asyncio.sleep(POLL.total_seconds())
            # The last one is nearly always the last: until then it alone is looked for.
            if await self._ends(missing[-1:]):
                ends |= await self._ends(missing)
                missing = [event_id for event_id in missing if event_id not in ends]
        return ends

    async def _ends(self, event_ids: Sequence[UUID]) -> dict[UUID, RowEnd]:
        found = await self._events.ends(event_ids)
        return {event_id: RowEnd(*end) for event_id, end in found.items()}

    async def _made(self, rows: Mapping[UUID, Row], *, accepted: str | None) -> list[Event]:
        """Return the events of rows, by their ids, under the keys of the leads they change."""
        events = [self._event(event_id, row, accepted) for event_id, row in rows.items()]
        upserts = [event.data for event in events if isinstance(event.data, LeadUpserted)]
        if not upserts:
            return events
        moved = await self._leads.moved_keys([data.external_id for data in upserts])
        return [under_key(event, moved) for event in events]

    def _event(self, event_id: UUID, row: Row, accepted: str | None) -> Event:
        lead_id = row.lead_id or row_lead_id(event_id)
        return Event(
            id=event_id,
            source="syncer",
            subject=str(lead_id),
            correlation_id=self._of.correlation_id,
            data=self._data(lead_id, row),
            accepted=accepted,
        )

    def _data(self, lead_id: UUID, row: Row) -> EventData:
        source, created_by = LeadSource.IMPORT, self._of.created_by
        lead = cast("LeadFields", row.lead)
        if row.lead_id is not None:
            given = cast("GivenLead", lead).given()
            given.pop("external_id", None)  # the lead may have one that the file does not say
            changes = LeadChanges(**given)
            return LeadUpdated(lead_id=lead_id, changes=changes, updated_by=created_by)
        if self._of.mode is ImportMode.CREATE:
            return LeadCreated(lead_id=lead_id, source=source, created_by=created_by, lead=lead)
        return LeadUpserted(
            lead_id=lead_id,
            source=source,
            created_by=created_by,
            external_id=cast("UUID", lead.external_id),  # such rows have one
            lead=cast("GivenLead", lead),
        )


def _entry(entry_id: str, event: Event) -> Entry:
    return Entry(entry_id, {b"id": str(event.id).encode()})


def _rounds(events: Sequence[Event]) -> Iterator[Sequence[tuple[str, Event]]]:
    """Yield what can be applied together: of each key one event at a time, and of one type."""
    seen: Counter[str] = Counter()
    rounds: defaultdict[tuple[int, str], list[tuple[str, Event]]] = defaultdict(list)
    for event in events:
        key = event.key
        rounds[seen[key], event.type].append((key, event))
        seen[key] += 1
    for place in sorted(rounds):
        yield rounds[place]


def _row_end(outcome: Outcome) -> RowEnd:
    is_refused = outcome.status in {OutcomeStatus.DUPLICATE, OutcomeStatus.ERASED}
    return RowEnd(outcome.status, orjson.loads(outcome.body) if is_refused else {})
