"""Applying lead-upserted events: the lead with an externalId is changed, or else made."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import asyncpg

from services.syncer.storage.archived.replayed import answer_replayed
from services.syncer.storage.creation import Creation, create_leads
from services.syncer.storage.event_order import (
    Update,
    change_again,
    change_in_its_place,
    misplaced,
)
from services.syncer.storage.lead_row import Change
from services.syncer.storage.locked_leads import LockedLeads
from shared.events.outcome import OutcomeStatus
from shared.storage.inbox import Inbox, WriteResult
from shared.storage.lead_document import LeadDocument
from shared.storage.pool import Connection, Database, retry_unique_violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsert:
    """An event, the lead that it makes if there is none, and the change if there is one."""

    external_id: UUID
    key: str
    creation: Creation
    change: Change
    put_back: bool = False

    @property
    def event_id(self) -> UUID:
        """The event's id."""
        return self.creation.event.id

    def update_of(self, lead_id: UUID) -> Update:
        """Return the change of a lead that is there: the event is then about that lead."""
        return Update(
            event=replace(self.creation.event, subject=str(lead_id)),
            key=self.key,
            lead_id=lead_id,
            change=self.change,
            replayed=self.creation.replayed,
            put_back=self.put_back,
        )


class LeadUpsertRepository:
    """Changes leads, or makes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(self, upserts: Sequence[Upsert]) -> list[WriteResult]:
        """Apply each upsert once, all in one transaction; returns the results in their order."""
        return await retry_unique_violation(lambda: self._upsert(upserts))

    async def _upsert(self, upserts: Sequence[Upsert]) -> list[WriteResult]:
        unique = {upsert.event_id: upsert for upsert in upserts}
        results: dict[UUID, WriteResult] = {}
        async with self._database.transaction() as connection:
            replayed = [one.creation.event for one in unique.values() if one.creation.replayed]
            if replayed:
                results |= await answer_replayed(connection, replayed)
            new = [one for one in unique.values() if one.event_id not in results]
            for round_ in _rounds(new):
                results |= await _apply(connection, round_)
        return [results[upsert.event_id] for upsert in upserts]


def _rounds(upserts: Iterable[Upsert]) -> Iterator[Sequence[Upsert]]:
    """Yield upserts in rounds: those of one lead one after the other, the others at once."""
    seen: Counter[UUID] = Counter()
    rounds: defaultdict[int, list[Upsert]] = defaultdict(list)
    for upsert in upserts:
        rounds[seen[upsert.external_id]].append(upsert)
        seen[upsert.external_id] += 1
    yield from rounds.values()


async def _apply(connection: Connection, upserts: Sequence[Upsert]) -> dict[UUID, WriteResult]:
    """Change the leads that are there, then make those that are not."""
    results: dict[UUID, WriteResult] = {}
    absent: list[Upsert] = []
    inbox = await Inbox.open(connection, [upsert.event_id for upsert in upserts])
    leads = await _lock(connection, inbox, upserts)
    for upsert in upserts:
        earlier = inbox.earlier(upsert.creation.event)
        lead = leads.with_external_id(upsert.external_id)
        if earlier is not None and _changed_before(earlier):
            update = upsert.update_of(UUID(inbox.subject(upsert.event_id)))
            results[upsert.event_id] = change_again(leads, update, earlier)
        elif earlier is None and (forwarded := _misplaced(upsert, lead)) is not None:
            results[upsert.event_id] = forwarded
        elif earlier is None and lead is not None:
            update = upsert.update_of(lead.id)
            result = await change_in_its_place(connection, leads, update)
            inbox.add(update.event, result)
            results[upsert.event_id] = result
        else:
            absent.append(upsert)
    await inbox.write()
    return results | await _create(connection, absent)


async def _lock(connection: Connection, inbox: Inbox, upserts: Sequence[Upsert]) -> LockedLeads:
    """Lock the leads with the externalIds, and those that the same events changed before."""
    external_ids = {upsert.external_id for upsert in upserts}
    changed = {
        UUID(inbox.subject(upsert.event_id))
        for upsert in upserts
        if _changed_before(inbox.earlier(upsert.creation.event))
    }
    return await LockedLeads.lock(connection, changed, external_ids=external_ids)


def _misplaced(upsert: Upsert, lead: LeadDocument | None) -> WriteResult | None:
    # A lead that is made now has its externalId as its key.
    lead_key = upsert.external_id if lead is None else lead.partition_key
    return misplaced(upsert.key, lead_key=lead_key)


def _changed_before(earlier: WriteResult | None) -> bool:
    return earlier is not None and earlier.outcome.status is OutcomeStatus.UPDATED


async def _create(connection: Connection, absent: Sequence[Upsert]) -> dict[UUID, WriteResult]:
    """Make leads, or answer for events that were applied before to no lead that is there."""
    results = await create_leads(connection, [upsert.creation for upsert in absent])
    met = [
        upsert.external_id
        for upsert in absent
        if results[upsert.event_id].outcome.status is OutcomeStatus.DUPLICATE
        and not results[upsert.event_id].outcome.repeated
    ]
    held = await LockedLeads.lock(connection, (), external_ids=met)
    if any(held.with_external_id(external_id) is not None for external_id in met):
        # Another transaction made it meanwhile: once more, and this one changes it.
        raise asyncpg.UniqueViolationError("A lead with the externalId has just been made")
    return results
