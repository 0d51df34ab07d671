"""Applying lead-updated events: versioned changes of leads, with their events."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson

from services.syncer.storage.held_leads import Change, Conflict, HeldLeads
from services.syncer.storage.tombstones import buried
from shared.domain.errors import TransientError
from shared.events.envelope import now
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import Applied, Ended, EventRecord, Recalled, recall, record
from shared.storage.pool import Connection, Database, outlasting_races

# What a change makes of a lead: the answer, and what is kept of it; and the change once more.

# Summaries make versions too, but no replay of them does.
_PASSED_OVER = """
    SELECT EXISTS (
        SELECT FROM leads.event
        WHERE subject = $1 AND outcome = 'updated'
          AND (detail ->> 'version')::bigint > $2 AND (detail ->> 'version')::bigint < $3
    )
"""

_GONE = Applied(Outcome(OutcomeStatus.NOT_FOUND, repeated=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOrder:
    """An event that changes a lead; `attempt` and `replayed` as in its envelope."""

    event: EventRecord
    lead_id: UUID
    change: Change
    attempt: int
    replayed: bool


async def change_first(leads: HeldLeads, order: ChangeOrder) -> tuple[Applied, Ended]:
    """Change a held lead."""
    changed = await leads.change(order.lead_id, order.change)
    if isinstance(changed, Conflict):
        return refused(order.event, OutcomeStatus.DUPLICATE, changed.detail)
    lead = changed.document
    version = {"version": lead.version} if changed.by_this else {}
    return (
        Applied(
            Outcome(OutcomeStatus.UPDATED, lead.json),
            lead,
            change="updated" if changed.by_this else None,
        ),
        Ended(order.event, OutcomeStatus.UPDATED, orjson.dumps(version).decode()),
    )


def refused(
    event: EventRecord, status: OutcomeStatus, detail: str | None = None
) -> tuple[Applied, Ended]:
    """Return the end of an event that changes nothing."""
    body = (detail or "{}").encode()
    return Applied(Outcome(status, body)), Ended(event, status, detail)


async def change_again(
    connection: Connection, leads: HeldLeads, order: ChangeOrder, earlier: Recalled
) -> Applied:
    """Answer an event that changed the lead before; a replay may have to do it once more."""
    repeated = earlier.repeated(order.event)
    if repeated.outcome.status is not OutcomeStatus.UPDATED:
        return repeated
    lead = leads.document(order.lead_id)
    if order.replayed and earlier.version is not None:
        if lead is None:
            await _wait_for_lead(connection, order)
        elif lead.version < earlier.version:
            return await _redo(connection, leads, order, version=earlier.version)
    if lead is None:
        return _GONE
    return Applied(
        replace(repeated.outcome, body=lead.json),
        lead,
        change=None if earlier.version is None else "updated",
    )


async def _redo(
    connection: Connection, leads: HeldLeads, order: ChangeOrder, *, version: int
) -> Applied:
    """Make a version that was lost, unless one before it is to be made first."""
    lead = leads.document(order.lead_id)
    if lead is None:
        return _GONE
    if await connection.fetchval(_PASSED_OVER, str(lead.id), lead.version, version):
        wait(order.attempt, "An earlier change of the lead is not there yet")
        return Applied(Outcome(OutcomeStatus.UPDATED, lead.json, repeated=True), lead)
    changed = await leads.change(order.lead_id, order.change, version=version)
    if isinstance(changed, Conflict):
        return Applied(Outcome(OutcomeStatus.DUPLICATE, changed.detail.encode(), repeated=True))
    return Applied(
        Outcome(OutcomeStatus.UPDATED, changed.document.json, repeated=not changed.by_this),
        changed.document,
        change="updated",
    )


async def _wait_for_lead(connection: Connection, order: ChangeOrder) -> None:
    if not await buried(connection, [order.lead_id]):
        wait_for_creation(order.lead_id, attempt=order.attempt, replayed=order.replayed)


# Events that overtake those they build on: waiting for these, but not for ever.

# How often an event is tried before what it waits for counts as never to come.
PATIENT_ATTEMPTS = 3

# How old a lead can be before its creation must have been seen.
YOUNG = timedelta(minutes=1)

_TIME_ORDERED = 7
_TIME_SHIFT = 80


def wait_for_creation(lead_id: UUID, *, attempt: int, replayed: bool) -> None:
    """Raise `TransientError` when the event that makes this lead may still be under way."""
    if replayed or _is_young(lead_id):
        wait(attempt, "The lead is not there yet")


def wait(attempt: int, reason: str) -> None:
    """Raise `TransientError` unless this event has been tried often enough."""
    if attempt < PATIENT_ATTEMPTS:
        raise TransientError(reason)


def _is_young(lead_id: UUID) -> bool:
    # A UUIDv7 begins with its time; of other ids nobody knows their age.
    if lead_id.version != _TIME_ORDERED:
        return False
    made_at = datetime.fromtimestamp((lead_id.int >> _TIME_SHIFT) / 1000, UTC)
    return abs(now() - made_at) < YOUNG


@dataclass(frozen=True, slots=True)
class Update:
    """A change that is asked for, of a lead that is still in `expected_version` if there is one."""

    order: ChangeOrder
    expected_version: int | None


class LeadUpdateRepository:
    """Changes leads. Raises `UnavailableError`, or `TransientError` to have it repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def update(self, updates: Sequence[Update]) -> list[Applied]:
        """Apply each update once, in order, all in one transaction; returns what became of each."""
        return await outlasting_races(lambda: self._update(updates))

    async def _update(self, updates: Sequence[Update]) -> list[Applied]:
        results: list[Applied] = []
        ended: list[Ended] = []
        async with self._database.transaction() as connection:
            leads = await HeldLeads.lock(connection, {one.order.lead_id for one in updates})
            # Only now: another process may have had the lead, and this very event.
            known = await recall(connection, {one.order.event.id for one in updates})
            for update in updates:
                event = update.order.event
                if event.id in known:
                    earlier = known[event.id]
                    result = await change_again(connection, leads, update.order, earlier)
                else:
                    result, end = await _apply(connection, leads, update)
                    known[event.id] = end.recalled
                    ended.append(end)
                results.append(result)
            await record(connection, ended)
        return results


async def _apply(connection: Connection, leads: HeldLeads, update: Update) -> tuple[Applied, Ended]:
    order = update.order
    lead = leads.document(order.lead_id)
    if lead is None:
        if not await buried(connection, [order.lead_id]):
            wait_for_creation(order.lead_id, attempt=order.attempt, replayed=order.replayed)
        return refused(order.event, OutcomeStatus.NOT_FOUND)
    if update.expected_version not in {None, lead.version}:
        detail = orjson.dumps({"version": lead.version}).decode()
        return refused(order.event, OutcomeStatus.VERSION_MISMATCH, detail)
    return await change_first(leads, order)
