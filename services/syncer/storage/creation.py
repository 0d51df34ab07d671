"""Applying lead-created events: leads, their events and the dedupe, in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from uuid import UUID

import asyncpg
import orjson

from services.syncer.storage import creation_sql as insertion
from services.syncer.storage.tombstones import are_overtaken, lift
from shared.domain.errors import TransientError
from shared.domain.lead import LeadSource, email_key
from shared.events.envelope import Event
from shared.events.lead_fields import LeadFields
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.import_repository import CONFLICTS
from shared.storage.inbox import EventRecord, columns
from shared.storage.lead_document import LeadDocument, document
from shared.storage.pool import Connection, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLead:
    """The columns of a lead that its creation sets. Version and status have their defaults."""

    id: UUID
    external_id: UUID | None
    first_name: str
    last_name: str
    email: str
    email_key: str
    phone: str | None
    cell: str | None
    dob: str | None
    city: str | None
    state: str | None
    country: str | None
    picture: str | None
    source: str
    created_by: str | None
    created_at: datetime


# The lead that an event asks for.


def new_lead(
    event: Event, lead: LeadFields, *, lead_id: UUID, source: str, created_by: str | None
) -> NewLead:
    """Return a lead as it was when the event was made."""
    return NewLead(
        id=lead_id,
        external_id=lead.external_id,
        first_name=lead.first_name,
        last_name=lead.last_name,
        email=lead.email,
        email_key=email_key(lead.email),
        phone=lead.phone,
        cell=lead.cell,
        dob=lead.dob,
        city=lead.city,
        state=lead.state,
        country=lead.country,
        picture=lead.picture,
        source=source,
        created_by=created_by,
        created_at=event.time,
    )


@dataclass(frozen=True, slots=True)
class Creation:
    """An event and the lead that it asks for.

    A `replayed` one whose lead is gone although it was made is made again.
    """

    event: EventRecord
    lead: NewLead
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    """What became of a creation; `document` is the lead, if there is one by this event.

    `holder` is the lead that has the externalId already, when that is why none was made.
    """

    outcome: Outcome
    document: LeadDocument | None = None
    holder: UUID | None = None


# Not `astuple`: it copies each value deeply, which takes longer than all else here.
_event_columns = attrgetter(*(field.name for field in fields(EventRecord)))
_lead_columns = attrgetter(*(field.name for field in fields(NewLead)))


class LeadCreationRepository:
    """Writes new leads. Raises `UnavailableError`, or `TransientError` to have it repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, creations: Sequence[Creation]) -> list[Created]:
        """Apply each creation once, all in one transaction; returns what became of each."""
        # An event may be in a batch twice, after a publication whose answer was lost.
        unique = {creation.event.id: creation for creation in creations}
        async with self._database.transaction() as connection:
            created = await create_unique(connection, unique.values())
        return [created[creation.event.id] for creation in creations]


async def create_unique(
    connection: Connection, creations: Iterable[Creation]
) -> dict[UUID, Created]:
    """Apply different events' creations as a part of a transaction; returns them by event id."""
    # Equal keys in one order in every process: batches may wait, but never in a circle.
    offered = sorted(creations, key=lambda creation: creation.lead.email_key)
    rows = {row["event_id"]: row for row in await _insert(connection, offered)}
    created = {event_id: _created(row) for event_id, row in rows.items() if row["id"] is not None}
    await _see_to_tombstones(connection, [one for one in offered if one.event.id in created], rows)
    refused = [one for one in offered if one.event.id in rows.keys() - created.keys()]
    created |= await _mark_refused(connection, refused, rows)
    known = [one for one in offered if one.event.id not in created]
    created |= await _recall(connection, known)
    lost = [one for one in known if one.replayed and _is_lost(created[one.event.id])]
    created |= await _restore(connection, lost)
    return created


async def _insert(connection: Connection, offered: Sequence[Creation]) -> list[asyncpg.Record]:
    rows = [(*_event_columns(one.event), *_lead_columns(one.lead), one.replayed) for one in offered]
    return await connection.fetch(insertion.INSERT, *columns(rows))


async def _see_to_tombstones(
    connection: Connection, made: Sequence[Creation], rows: Mapping[UUID, asyncpg.Record]
) -> None:
    """A person's creation lifts tombstones; a source's may have missed one just put up."""
    anew = [one.lead.id for one in made if rows[one.event.id]["buried"] and not one.replayed]
    await lift(connection, anew)
    offers = [one.lead.id for one in made if one.lead.source != LeadSource.MANUAL]
    if await are_overtaken(connection, offers):
        raise TransientError("A lead was deleted meanwhile; the batch is worth another try")


async def _mark_refused(
    connection: Connection, refused: Sequence[Creation], rows: Mapping[UUID, asyncpg.Record]
) -> dict[UUID, Created]:
    """Find what stood in the way of each refused lead, and note it with its event."""
    if not refused:
        return {}
    keys = [(one.event.id, one.lead.external_id, one.lead.email_key) for one in refused]
    found = await connection.fetch(CONFLICTS, *columns(keys))
    conflicts = {row["event_id"]: row for row in found}
    outcomes = {
        one.event.id: _refusal(conflicts.get(one.event.id), barred=rows[one.event.id]["barred"])
        for one in refused
        # A lead in its own way was created before its event's row was lost.
        if one.event.id not in conflicts or conflicts[one.event.id]["id"] != one.lead.id
    }
    marked = [(key, outcome.status, outcome.body.decode()) for key, outcome in outcomes.items()]
    if marked:
        await connection.execute(insertion.MARK, *columns(marked))
    return {
        event_id: Created(outcome, holder=_holder(outcome, conflicts.get(event_id)))
        for event_id, outcome in outcomes.items()
    }


def _refusal(conflict: asyncpg.Record | None, *, barred: str | None) -> Outcome:
    if barred == "id":
        return Outcome(OutcomeStatus.NOT_FOUND, repeated=True)
    if conflict is not None:
        detail = {"field": conflict["field"], "leadId": str(conflict["id"])}
        return Outcome(OutcomeStatus.DUPLICATE, orjson.dumps(detail))
    if barred is not None:
        return Outcome(OutcomeStatus.ERASED, orjson.dumps({"field": barred}))
    raise TransientError("A lead that stood in the way is gone; the batch is worth another try")


def _holder(outcome: Outcome, conflict: asyncpg.Record | None) -> UUID | None:
    if outcome.status is not OutcomeStatus.DUPLICATE or conflict is None:
        return None
    is_by_external_id = conflict["field"] == "externalId" and conflict["has_key"]
    return conflict["id"] if is_by_external_id else None


async def _recall(connection: Connection, known: Sequence[Creation]) -> dict[UUID, Created]:
    """Answer for events that were applied before, as they were answered then."""
    if not known:
        return {}
    hashes = {one.event.id: one.event.payload_hash for one in known}
    rows = await connection.fetch(insertion.KNOWN, list(hashes))
    return {
        row["event_id"]: _recalled(row, same=row["payload_hash"] == hashes[row["event_id"]])
        for row in rows
    }


async def _restore(connection: Connection, lost: Sequence[Creation]) -> dict[UUID, Created]:
    """Make leads again that were made once and have vanished, exactly as they were."""
    if not lost:
        return {}
    events = {one.lead.id: one.event.id for one in lost}
    leads = columns([_lead_columns(one.lead) for one in lost])
    rows = await connection.fetch(insertion.RESTORE, *leads)
    return {events[row["id"]]: _created(row) for row in rows}


def _is_lost(recalled: Created) -> bool:
    return recalled.outcome.status == OutcomeStatus.NOT_FOUND


def _recalled(row: asyncpg.Record, *, same: bool) -> Created:
    if not same:
        return Created(Outcome(OutcomeStatus.KEY_REUSED, repeated=True))
    if row["outcome"] != OutcomeStatus.CREATED:
        detail = (row["detail"] or "{}").encode()
        return Created(Outcome(OutcomeStatus(row["outcome"]), detail, repeated=True))
    if row["id"] is None:
        return Created(Outcome(OutcomeStatus.NOT_FOUND, repeated=True))
    return _created(row, repeated=True)


def _created(row: asyncpg.Record, *, repeated: bool = False) -> Created:
    lead = document(row)
    return Created(Outcome(OutcomeStatus.CREATED, lead.json, repeated=repeated), lead)
