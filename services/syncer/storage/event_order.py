"""Events that come once more, in another partition than their lead's, or behind a parked one."""

from dataclasses import dataclass, replace
from uuid import UUID

from services.syncer.storage.lead_row import Change
from services.syncer.storage.locked_leads import LockedLeads
from shared.domain.errors import PermanentError
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventRecord, WriteResult
from shared.storage.pool import Connection

# A creation sets all of a lead.
_SET_LATER = """
    SELECT coalesce(bool_or(outcome = 'created'), false) AS all_of_it,
           coalesce(array_agg(DISTINCT name) FILTER (WHERE name IS NOT NULL), '{}') AS columns
    FROM leads.event LEFT JOIN LATERAL unnest(changed) AS name ON true
    WHERE subject = $1 AND outcome IN ('created', 'updated') AND accepted > $2
"""
_IS_PARKED = """
    SELECT EXISTS (
        SELECT FROM leads.dead_letter
        WHERE fields ->> 'subject' = $1 AND type IN ('lead-created', 'lead-upserted')
    )
"""

_GONE = WriteResult(Outcome(OutcomeStatus.NOT_FOUND, repeated=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An event that changes a lead, which is still in `expected_version` if there is one.

    `key`, `replayed` and `put_back` are as in the event's envelope.
    """

    event: EventRecord
    key: str
    lead_id: UUID
    change: Change
    replayed: bool
    expected_version: int | None = None
    put_back: bool = False


def change_again(leads: LockedLeads, update: Update, earlier: WriteResult) -> WriteResult:
    """Answer an event that changed the lead before, and came once more."""
    if earlier.outcome.status is not OutcomeStatus.UPDATED:
        return earlier
    lead = leads.document(update.lead_id)
    if lead is None:
        return _GONE
    change = None if earlier.version is None else "updated"
    return replace(
        earlier, outcome=replace(earlier.outcome, body=lead.json), lead=lead, change=change
    )


def misplaced(key: str, *, lead_key: UUID) -> WriteResult | None:
    """Return the forwarding of an event whose partition key is another one than its lead's.

    Who sent it did not know better, by an old copy of the lead or before its externalId changed.
    """
    return None if key == str(lead_key) else WriteResult.forwarded(lead_key)


async def change_in_its_place(
    connection: Connection, leads: LockedLeads, update: Update
) -> WriteResult:
    """Change a lead, without what events that were accepted later have set in the meantime.

    Its end is `overtaken` when they have set all of it.
    """
    change = update.change
    if update.put_back and update.event.accepted is not None:
        [later] = await connection.fetch(_SET_LATER, str(update.lead_id), update.event.accepted)
        wanted = () if later["all_of_it"] else change.values.keys() - set(later["columns"])
        if not wanted:
            return WriteResult.refusal(OutcomeStatus.OVERTAKEN)
        change = replace(change, values={name: change.values[name] for name in wanted})
    return await leads.change(update.lead_id, change)


async def refuse_behind_parked(connection: Connection, lead_id: UUID) -> None:
    """Raise `PermanentError` with code `behind-parked` for a lead whose creation is parked.

    What comes after it is parked as well, to be put back behind it.
    """
    if await connection.fetchval(_IS_PARKED, str(lead_id)):
        raise PermanentError("The event that makes the lead is parked", code="behind-parked")
