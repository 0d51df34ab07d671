"""Applying lead-deleted events: the lead goes, and with it what else is kept of the person."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self
from uuid import UUID

import orjson

from services.syncer.storage.erasure import erase_records
from services.syncer.storage.event_order import misplaced, wait_for_creation
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventRecord, Inbox, WriteResult
from shared.storage.lead_document import LeadDocument
from shared.storage.pool import Connection, Database, retry_unique_violation

# Summaries first, as where they are finished: they go with their leads.
_LOCK_SUMMARIES = """
    SELECT FROM leads.summary WHERE lead_id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""
_LOCK = """
    SELECT id, external_id, version, leads.partition_key(lead) AS partition_key FROM leads.lead
    WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""
_DELETE = """
    WITH gone AS (
        DELETE FROM leads.lead USING unnest($1::uuid[], $2::timestamptz[]) AS dead (id, deleted_at)
        WHERE lead.id = dead.id RETURNING lead.*, dead.deleted_at
    )
    INSERT INTO leads.tombstone (lead_id, external_id_hash, email_key_hash, version, deleted_at)
    SELECT id, leads.external_id_hash(external_id), leads.email_key_hash(email_key), version + 1,
           deleted_at
    FROM gone
    ON CONFLICT (lead_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """An event that asks for a lead's end, if it is still in `expected_version`."""

    event: EventRecord
    key: str
    lead_id: UUID
    expected_version: int | None
    attempt: int
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
            leads = await _Leads.lock(connection, {one.lead_id for one in deletions})
            inbox = await Inbox.open(connection, {one.event.id for one in deletions})
            for deletion in deletions:
                earlier = inbox.earlier(deletion.event)
                if earlier is None:
                    result = await _delete(connection, leads, deletion)
                    inbox.add(deletion.event, result)
                else:
                    result = _delete_again(leads, deletion, earlier)
                results.append(result)
            await leads.write()
            await inbox.write()
        return results


class _Leads:
    """Locked leads, and those among them that are to go at the end of the transaction."""

    def __init__(self, connection: Connection, present: dict[UUID, LeadDocument]) -> None:
        self._connection = connection
        self.present = present
        self.deleted: dict[UUID, datetime] = {}

    @classmethod
    async def lock(cls, connection: Connection, lead_ids: Collection[UUID]) -> Self:
        ids = list(lead_ids)
        await connection.execute(_LOCK_SUMMARIES, ids)
        rows = await connection.fetch(_LOCK, ids)
        return cls(connection, {row["id"]: LeadDocument(**row, json=b"") for row in rows})

    def delete(self, deletion: Deletion) -> LeadDocument:
        """Have a lead go; returns it in its last version."""
        lead = self.present.pop(deletion.lead_id)
        self.deleted[deletion.lead_id] = deletion.event.time
        return replace(lead, version=lead.version + 1)

    async def write(self) -> None:
        if self.deleted:
            ids = list(self.deleted)
            await self._connection.execute(_DELETE, ids, list(self.deleted.values()))
            await erase_records(self._connection, ids)


async def _delete(connection: Connection, leads: _Leads, deletion: Deletion) -> WriteResult:
    lead = leads.present.get(deletion.lead_id)
    if lead is None:
        if deletion.lead_id not in leads.deleted:
            await wait_for_creation(
                connection, deletion.lead_id, attempt=deletion.attempt, replayed=deletion.replayed
            )
        return WriteResult.refusal(OutcomeStatus.NOT_FOUND)
    if (forwarded := misplaced(deletion.key, lead_key=lead.partition_key)) is not None:
        return forwarded
    if deletion.expected_version not in {None, lead.version}:
        return WriteResult.refusal(OutcomeStatus.VERSION_MISMATCH, version=lead.version)
    deleted = leads.delete(deletion)
    detail = orjson.dumps({"version": deleted.version})
    outcome = Outcome(OutcomeStatus.DELETED, detail)
    return WriteResult(outcome, deleted, change="deleted", detail=detail.decode())


def _delete_again(leads: _Leads, deletion: Deletion, earlier: WriteResult) -> WriteResult:
    if earlier.outcome.status is not OutcomeStatus.DELETED or earlier.version is None:
        return earlier
    if deletion.lead_id not in leads.present:
        lead = LeadDocument(
            id=deletion.lead_id,
            external_id=None,
            version=earlier.version,
            partition_key=deletion.lead_id,
            json=b"",
        )
        return replace(earlier, lead=lead, change="deleted")
    # It came back, by a database that was restored: only a replay knows how.
    if not deletion.replayed:
        return earlier
    outcome = replace(earlier.outcome, repeated=False)
    return replace(earlier, outcome=outcome, lead=leads.delete(deletion), change="deleted")
