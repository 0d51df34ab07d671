"""Imports that came to an end, and what leads are in the way of rows."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from shared.domain.lead import email_key
from shared.events.lead_fields import LeadFields
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventRecord, Inbox, WriteResult, columns
from shared.storage.pool import Database, retry_unique_violation

# `has_key` tells a lead with the same externalId from one that has it as its id.
CONFLICTS = """
    WITH offered AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[]) WITH ORDINALITY
            AS offered (event_id, external_id, email_key, position)
    )
    SELECT DISTINCT ON (position) event_id, field, has_key, id FROM (
        SELECT event_id, position, 1 AS rank, 'externalId' AS field, true AS has_key, lead.id
        FROM offered JOIN leads.lead USING (external_id)
        UNION ALL
        SELECT event_id, position, 2, 'externalId', false, lead.id
        FROM offered JOIN leads.lead ON lead.id = offered.external_id
        UNION ALL
        SELECT event_id, position, 3, 'email', true, lead.id
        FROM offered JOIN leads.lead USING (email_key)
    ) AS found ORDER BY position, rank
"""


class ImportRepository:
    """Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, event: EventRecord) -> Outcome | None:
        """Return how an import ended, unless it is still to be done."""
        async with self._database.connection() as connection:
            earlier = (await Inbox.open(connection, [event.id])).earlier(event)
        return None if earlier is None else earlier.outcome

    async def end(
        self, event: EventRecord, status: OutcomeStatus, detail: dict[str, Any]
    ) -> Outcome:
        """Keep an import's end: the first one, whoever else brings one."""
        return await retry_unique_violation(lambda: self._end(event, status, orjson.dumps(detail)))

    async def in_the_way(
        self, leads: Sequence[tuple[UUID, LeadFields]]
    ) -> dict[UUID, dict[str, str]]:
        """Return what is in the way of leads that exist already: the detail of a duplicate."""
        keys = [(key, lead.external_id, email_key(lead.email)) for key, lead in leads]
        async with self._database.connection() as connection:
            rows = await connection.fetch(CONFLICTS, *columns(keys))
        return {row["event_id"]: {"field": row["field"], "leadId": str(row["id"])} for row in rows}

    async def _end(self, event: EventRecord, status: OutcomeStatus, detail: bytes) -> Outcome:
        async with self._database.transaction() as connection:
            inbox = await Inbox.open(connection, [event.id])
            result = inbox.earlier(event)
            if result is None:
                result = WriteResult(Outcome(status, detail), detail=detail.decode())
                inbox.add(event, result)
                await inbox.write()
        return result.outcome
