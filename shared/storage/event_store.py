"""The event table: what became of the events that were applied."""

from collections.abc import Sequence
from uuid import UUID

from shared.storage.pool import Database

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

    async def is_applied(self, event_id: UUID) -> bool:
        """Tell whether an event's effect is in the database."""
        return bool(await self.outcomes([event_id]))
