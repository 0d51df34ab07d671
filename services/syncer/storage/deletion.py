"""Applying lead-deleted events: the lead goes, and with it what else is kept of the person."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self
from uuid import UUID

import orjson

from services.syncer.storage.archived.replayed import answer_replayed
from services.syncer.storage.event_order import misplaced, refuse_behind_parked
from services.syncer.storage.locked_leads import LockedLeads
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.erasure import delete_leads, erase_records
from shared.storage.inbox import EventRecord, Inbox, WriteResult
from shared.storage.lead_document import LeadDocument, deleted_lead
from shared.storage.pool import Connection, Database, retry_unique_violation

# Summaries first, as where they are finished: they go with their leads.
_LOCK_SUMMARIES = """
    SELECT FROM leads.summary WHERE lead_id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """An event that asks for a lead's end, if it is still in `expected_version`."""

    event: EventRecord
    key: str
    lead_id: UUID
    expected_version: int | None
    replayed: bool


class LeadDeletionRepository:
    """Deletes leads.

    The lead of a result has no JSON, nor what it was known by once that is forgotten.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete(self, deletions: Sequence[Deletion]) -> list[WriteResult]:
        """Apply each deletion once, in order, all in one transaction."""
        return await retry_unique_violation(lambda: self._delete(deletions))

    async def _delete(self, deletions: Sequence[Deletion]) -> list[WriteResult]:
        results: list[WriteResult] = []
        async with self._database.transaction() as connection:
            replayed = [one.event for one in deletions if one.replayed]
            archived = await answer_replayed(connection, replayed) if replayed else {}
            new = [one for one in deletions if one.event.id not in archived]
            leads = await _Leads.lock(connection, {one.lead_id for one in new})
            inbox = await Inbox.open(connection, {one.event.id for one in new})
            for deletion in deletions:
                result = archived.get(deletion.event.id)
                if result is None:
                    result = await _apply(connection, leads, inbox, deletion)
                results.append(result)
            await leads.write()
            await inbox.write()
        return results


async def _apply(
    connection: Connection, leads: "_Leads", inbox: Inbox, deletion: Deletion
) -> WriteResult:
    earlier = inbox.earlier(deletion.event)
    if earlier is not None:
        return _answer_again(leads, deletion, earlier)
    result = await _delete(connection, leads, deletion)
    inbox.add(deletion.event, result)
    return result


class _Leads:
    """Locked leads, and those among them that are to go at the end of the transaction."""

    def __init__(self, connection: Connection, locked: LockedLeads) -> None:
        self._connection = connection
        self._locked = locked
        self.deleted: dict[UUID, datetime] = {}

    @classmethod
    async def lock(cls, connection: Connection, lead_ids: Collection[UUID]) -> Self:
        await connection.execute(_LOCK_SUMMARIES, list(lead_ids))
        return cls(connection, await LockedLeads.lock(connection, lead_ids))

    def find(self, lead_id: UUID) -> LeadDocument | None:
        """Return a lead that is not to go."""
        return None if lead_id in self.deleted else self._locked.document(lead_id)

    def delete(self, lead: LeadDocument, *, deleted_at: datetime) -> LeadDocument:
        """Have a lead go; returns it in its last version."""
        self.deleted[lead.id] = deleted_at
        return replace(lead, version=self._locked.next_version(lead.id), json=b"")

    async def write(self) -> None:
        if self.deleted:
            await delete_leads(self._connection, self.deleted)
            await erase_records(self._connection, self.deleted)


async def _delete(connection: Connection, leads: _Leads, deletion: Deletion) -> WriteResult:
    lead = leads.find(deletion.lead_id)
    if lead is None:
        if deletion.lead_id not in leads.deleted:
            await refuse_behind_parked(connection, deletion.lead_id)
        return WriteResult.refusal(OutcomeStatus.NOT_FOUND)
    if (forwarded := misplaced(deletion.key, lead_key=lead.partition_key)) is not None:
        return forwarded
    if deletion.expected_version not in {None, lead.version}:
        return WriteResult.refusal(OutcomeStatus.VERSION_MISMATCH, version=lead.version)
    deleted = leads.delete(lead, deleted_at=deletion.event.time)
    detail = orjson.dumps({"version": deleted.version})
    outcome = Outcome(OutcomeStatus.DELETED, detail)
    return WriteResult(outcome, deleted, change="deleted", detail=detail.decode())


def _answer_again(leads: _Leads, deletion: Deletion, earlier: WriteResult) -> WriteResult:
    is_gone = earlier.outcome.status is OutcomeStatus.DELETED and earlier.version is not None
    # Unless it came back, by a database that was restored: only a replay sees to that.
    if not is_gone or leads.find(deletion.lead_id) is not None:
        return earlier
    return replace(
        earlier, lead=deleted_lead(deletion.lead_id, earlier.version or 0), change="deleted"
    )
