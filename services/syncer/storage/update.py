"""Applying lead-updated events: versioned changes of leads, with their events."""

from collections.abc import Sequence

from services.syncer.storage.archived.replayed import answer_replayed
from services.syncer.storage.event_order import (
    Update,
    change_again,
    change_in_its_place,
    misplaced,
    refuse_behind_parked,
)
from services.syncer.storage.locked_leads import LockedLeads
from shared.events.outcome import OutcomeStatus
from shared.storage.inbox import Inbox, WriteResult
from shared.storage.pool import Connection, Database, retry_unique_violation


class LeadUpdateRepository:
    """Changes leads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def update(self, updates: Sequence[Update]) -> list[WriteResult]:
        """Apply each update once, in order, all in one transaction."""
        return await retry_unique_violation(lambda: self._update(updates))

    async def _update(self, updates: Sequence[Update]) -> list[WriteResult]:
        results: list[WriteResult] = []
        async with self._database.transaction() as connection:
            replayed = [update.event for update in updates if update.replayed]
            archived = await answer_replayed(connection, replayed) if replayed else {}
            new = [update for update in updates if update.event.id not in archived]
            leads = await LockedLeads.lock(connection, {update.lead_id for update in new})
            # Only now: another process may have had the lead, and this very event.
            inbox = await Inbox.open(connection, {update.event.id for update in new})
            for update in updates:
                result = archived.get(update.event.id)
                if result is None:
                    result = await _apply(connection, leads, inbox, update)
                results.append(result)
            await inbox.write()
        return results


async def _apply(
    connection: Connection, leads: LockedLeads, inbox: Inbox, update: Update
) -> WriteResult:
    earlier = inbox.earlier(update.event)
    if earlier is not None:
        return change_again(leads, update, earlier)
    result = await _change(connection, leads, update)
    inbox.add(update.event, result)
    return result


async def _change(connection: Connection, leads: LockedLeads, update: Update) -> WriteResult:
    lead = leads.document(update.lead_id)
    if lead is None:
        await refuse_behind_parked(connection, update.lead_id)
        return WriteResult.refusal(OutcomeStatus.NOT_FOUND)
    if (forwarded := misplaced(update.key, lead_key=lead.partition_key)) is not None:
        return forwarded
    if update.expected_version not in {None, lead.version}:
        return WriteResult.refusal(OutcomeStatus.VERSION_MISMATCH, version=lead.version)
    return await change_in_its_place(connection, leads, update)
