"""Imports that ended, and the leads that rows would meet."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import orjson

from services.syncer.storage.conflicts import find_conflicts
from shared.domain.lead import email_key
from shared.events.lead_fields import LeadFields
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventRecord, Inbox, WriteResult
from shared.storage.pool import Database, retry_unique_violation

_HELD = "SELECT DISTINCT key FROM leads.held_entry WHERE stream = $1 AND attempt > 0"
_HOLDERS = "SELECT id, external_id FROM leads.lead WHERE email_key = ANY($1::text[])"


class ImportRepository:
    """Reads and writes the ends of imports."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_end(self, event: EventRecord) -> Outcome | None:
        """Return how an import ended, unless it is still to be done."""
        async with self._database.connection() as connection:
            earlier = (await Inbox.open(connection, [event.id])).earlier(event)
        return None if earlier is None else earlier.outcome

    async def write_end(
        self, event: EventRecord, status: OutcomeStatus, detail: dict[str, Any]
    ) -> Outcome:
        """Keep an import's end, or return the one that another process has kept."""
        return await retry_unique_violation(
            lambda: self._write_end(event, status, orjson.dumps(detail))
        )

    async def held_keys(self, stream: str) -> set[str]:
        """Return the keys of what is held back in a stream's partitions."""
        async with self._database.connection() as connection:
            return {row["key"] for row in await connection.fetch(_HELD, stream)}

    async def find_holders(self, emails: Collection[str]) -> set[UUID]:
        """Return the ids and externalIds of the leads that have these e-mail addresses."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_HOLDERS, [email_key(email) for email in emails])
        return {name for row in rows for name in row if name is not None}

    async def find_conflicts(
        self, leads: Sequence[tuple[UUID, LeadFields, UUID | None]]
    ) -> dict[UUID, dict[str, str]]:
        """Return which leads would meet another one: the details of duplicates.

        With each may be the id of the lead that it would change.
        """
        keys = [
            (key, lead.external_id or changed_id, email_key(lead.email))
            for key, lead, changed_id in leads
        ]
        async with self._database.connection() as connection:
            conflicts = await find_conflicts(connection, keys)
        return {
            key: {"field": row["field"], "leadId": str(row["id"])} for key, row in conflicts.items()
        }

    async def _write_end(self, event: EventRecord, status: OutcomeStatus, detail: bytes) -> Outcome:
        async with self._database.transaction() as connection:
            inbox = await Inbox.open(connection, [event.id])
            result = inbox.earlier(event)
            if result is None:
                result = WriteResult(Outcome(status, detail), detail=detail.decode())
                inbox.add(event, result)
                await inbox.write()
        return result.outcome
