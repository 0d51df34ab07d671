"""The event table: what became of the events that were applied."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from shared.events.outcome import OutcomeStatus
from shared.storage.pool import Database

# A dead letter is an end as well, until somebody retries it.
_ENDS = """
    SELECT id, outcome, detail::text FROM leads.event WHERE id = ANY($1::uuid[])
    UNION ALL
    SELECT event_id::uuid, 'dead', NULL FROM leads.dead_letter
    WHERE consumer_group = 'syncer' AND event_id = ANY($2::text[])
      AND event_id::uuid NOT IN (SELECT id FROM leads.event WHERE id = ANY($1::uuid[]))
"""
_OUTCOMES = "SELECT id, outcome FROM leads.event WHERE id = ANY($1::uuid[])"


class EventStore:
    """Reads applied events. Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def outcomes(self, event_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Return the outcome of each of these events that was applied."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_OUTCOMES, list(event_ids))
        return {row["id"]: row["outcome"] for row in rows}

    async def ends(
        self, event_ids: Sequence[UUID]
    ) -> dict[UUID, tuple[OutcomeStatus, dict[str, Any]]]:
        """Return the outcome of each that has come to an end in the syncer, and its detail."""
        texts = [str(event_id) for event_id in event_ids]
        async with self._database.connection() as connection:
            rows = await connection.fetch(_ENDS, list(event_ids), texts)
        return {
            row["id"]: (OutcomeStatus(row["outcome"]), orjson.loads(row["detail"] or b"{}"))
            for row in rows
        }

    async def is_applied(self, event_id: UUID) -> bool:
        """Tell whether an event's effect is in the database."""
        return bool(await self.outcomes([event_id]))
