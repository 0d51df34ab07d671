"""Applying lead-updated events: versioned changes of leads, with their events."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from shared.events.outcome import OutcomeStatus
from shared.storage.event_inbox import Applied, Ended, recall, record
from shared.storage.event_order import wait_for_creation
from shared.storage.held_leads import HeldLeads
from shared.storage.lead_change import ChangeOrder, change_again, change_first, refused
from shared.storage.pool import Connection, Database
from shared.storage.races import outlasting_races
from shared.storage.tombstones import buried


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
