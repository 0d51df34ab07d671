"""What a change makes of a lead: the answer, and what is kept of it; and the change once more."""

from dataclasses import dataclass, replace
from uuid import UUID

import orjson

from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.event_inbox import Applied, Ended, Recalled
from shared.storage.event_order import wait, wait_for_creation
from shared.storage.event_record import EventRecord
from shared.storage.held_leads import Change, Conflict, HeldLeads
from shared.storage.pool import Connection
from shared.storage.tombstones import buried

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
