"""Applying lead-deleted events: the lead goes, and with it what else is kept of the person."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from services.syncer.storage.erasure import ErasedEvent
from services.syncer.storage.tombstones import buried, email_key_hash, external_id_hash
from services.syncer.storage.update import refused, wait_for_creation
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import Ended, EventRecord, Recalled, recall, record
from shared.storage.pool import Connection, Database, outlasting_races

# Summaries first, as where they are finished: they go with their leads.
_LOCK_SUMMARIES = """
    SELECT FROM leads.summary WHERE lead_id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""
_LOCK = """
    SELECT id, external_id, version FROM leads.lead
    WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""
_BURY = f"""
    WITH gone AS (
        DELETE FROM leads.lead USING unnest($1::uuid[], $2::timestamptz[]) AS dead (id, deleted_at)
        WHERE lead.id = dead.id RETURNING lead.*, dead.deleted_at
    )
    INSERT INTO leads.tombstone (lead_id, external_id_hash, email_key_hash, version, deleted_at)
    SELECT id, {external_id_hash("external_id")}, {email_key_hash("email_key")}, version + 1,
           deleted_at
    FROM gone
    ON CONFLICT (lead_id) DO NOTHING
"""  # noqa: S608 (constants)

# The events of the lead, and those of others that tell of the same person. Some tell nothing
# but ids.
_ABOUT = """
    type NOT IN ('lead-deleted', 'summary-requested') AND (
        subject = ANY($1::text[])
        OR (outcome = 'duplicate' AND detail ->> 'leadId' = ANY($1::text[]))
    )
"""
_ERASE_EVENTS = f"UPDATE leads.event SET data = '{{}}' WHERE {_ABOUT}"  # noqa: S608 (constants)
_ERASE_SUMMARIES = """
    UPDATE leads.event SET detail = detail - '{summary,nextAction}'::text[]
    WHERE type = 'summary-requested' AND subject = ANY($1::text[]) AND detail ? 'summary'
"""
_ERASED_EVENTS = f"SELECT id, type, time, recorded_at FROM leads.event WHERE {_ABOUT}"  # noqa: S608 (constants)
_ERASE_LETTERS = "DELETE FROM leads.dead_letter WHERE fields ->> 'subject' = ANY($1::text[])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """An event that asks for a lead's end, if it is still in `expected_version`."""

    event: EventRecord
    lead_id: UUID
    expected_version: int | None
    attempt: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """A lead that is gone, in its last version. `external_id` may be forgotten by now."""

    lead_id: UUID
    version: int
    external_id: UUID | None


@dataclass(frozen=True, slots=True)
class Buried:
    """What became of a deletion: the lead that is gone, if this event ended it."""

    outcome: Outcome
    deleted: Deleted | None = None


class LeadDeletionRepository:
    """Deletes leads. Raises `UnavailableError`, or `TransientError` to have it repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete(self, deletions: Sequence[Deletion]) -> list[Buried]:
        """Apply each deletion once, all in one transaction; returns what became of each."""
        return await outlasting_races(lambda: self._delete(deletions))

    async def erased(self, lead_ids: Collection[UUID]) -> list[ErasedEvent]:
        """Return the events whose data a deletion of these leads has erased."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_ERASED_EVENTS, list(map(str, lead_ids)))
        return [
            ErasedEvent(
                id=row["id"],
                type=row["type"],
                made_at=row["time"],
                applied_at=row["recorded_at"],
            )
            for row in rows
        ]

    async def _delete(self, deletions: Sequence[Deletion]) -> list[Buried]:
        async with self._database.transaction() as connection:
            batch = await _Batch.begin(connection, deletions)
            results = [await batch.apply(deletion) for deletion in deletions]
            await batch.end()
        return results


class _Batch:
    """Deletions of one transaction."""

    def __init__(
        self,
        connection: Connection,
        leads: dict[UUID, Deleted],
        known: dict[UUID, Recalled],
    ) -> None:
        self._connection = connection
        self._leads = leads
        self._known = known
        self._dead: dict[UUID, datetime] = {}
        self._ended: list[Ended] = []

    @classmethod
    async def begin(cls, connection: Connection, deletions: Sequence[Deletion]) -> "_Batch":
        ids = list({deletion.lead_id for deletion in deletions})
        await connection.execute(_LOCK_SUMMARIES, ids)
        rows = await connection.fetch(_LOCK, ids)
        leads = {row["id"]: Deleted(row["id"], row["version"], row["external_id"]) for row in rows}
        return cls(connection, leads, await recall(connection, {one.event.id for one in deletions}))

    async def apply(self, deletion: Deletion) -> Buried:
        earlier = self._known.get(deletion.event.id)
        if earlier is not None:
            return self._again(deletion, earlier)
        lead = self._leads.get(deletion.lead_id)
        if lead is None:
            return await self._miss(deletion)
        if deletion.expected_version not in {None, lead.version}:
            detail = orjson.dumps({"version": lead.version}).decode()
            return self._refuse(deletion, OutcomeStatus.VERSION_MISMATCH, detail)
        gone = self._bury(deletion, lead)
        detail = orjson.dumps({"version": gone.version}).decode()
        self._end(Ended(deletion.event, OutcomeStatus.DELETED, detail))
        return Buried(Outcome(OutcomeStatus.DELETED, detail.encode()), gone)

    async def end(self) -> None:
        """Carry out what was decided."""
        ids = list(self._dead)
        if ids:
            texts = [str(lead_id) for lead_id in ids]
            await self._connection.execute(_BURY, ids, list(self._dead.values()))
            await self._connection.execute(_ERASE_EVENTS, texts)
            await self._connection.execute(_ERASE_SUMMARIES, texts)
            await self._connection.execute(_ERASE_LETTERS, texts)
        await record(self._connection, self._ended)

    def _bury(self, deletion: Deletion, lead: Deleted) -> Deleted:
        del self._leads[lead.lead_id]
        self._dead[lead.lead_id] = deletion.event.time
        return Deleted(lead.lead_id, lead.version + 1, lead.external_id)

    def _again(self, deletion: Deletion, earlier: Recalled) -> Buried:
        outcome = earlier.repeated(deletion.event).outcome
        if outcome.status is not OutcomeStatus.DELETED or earlier.version is None:
            return Buried(outcome)
        lead = self._leads.get(deletion.lead_id)
        if lead is None:
            return Buried(outcome, Deleted(deletion.lead_id, earlier.version, external_id=None))
        # It came back, by a database that was restored: only a replay knows how.
        if not deletion.replayed:
            return Buried(outcome)
        return Buried(Outcome(outcome.status, outcome.body), self._bury(deletion, lead))

    async def _miss(self, deletion: Deletion) -> Buried:
        is_buried = deletion.lead_id in self._dead or await buried(
            self._connection, [deletion.lead_id]
        )
        if not is_buried:
            wait_for_creation(
                deletion.lead_id, attempt=deletion.attempt, replayed=deletion.replayed
            )
        return self._refuse(deletion, OutcomeStatus.NOT_FOUND)

    def _refuse(
        self, deletion: Deletion, status: OutcomeStatus, detail: str | None = None
    ) -> Buried:
        applied, ended = refused(deletion.event, status, detail)
        self._end(ended)
        return Buried(applied.outcome)

    def _end(self, ended: Ended) -> None:
        self._ended.append(ended)
        self._known[ended.event.id] = ended.recalled
