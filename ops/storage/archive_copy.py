"""The event archive as lines of JSON: out of one database, into another."""

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints

from shared.events.replay import Selection
from shared.storage.event_archive import to_parameters
from shared.storage.pool import Database

# Rows fetched from the server at a time, and how long that may take.
PREFETCH = 1_000
FETCH_TIMEOUT = timedelta(minutes=2)

_EXPORT = """
    SELECT row_to_json(exported)::text AS line FROM (
        SELECT id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
               outcome, detail, applied_at, recorded_at
        FROM leads.selected_events($1, $2, $3, $4, $5, $6) ORDER BY recorded_at, id
    ) AS exported
"""
_IMPORT = """
    INSERT INTO leads.event (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
        outcome, detail, applied_at, recorded_at
    )
    SELECT id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
           outcome, detail, applied_at, recorded_at
    FROM jsonb_populate_recordset(NULL::leads.event, $1::jsonb)
    ON CONFLICT (id) DO NOTHING
"""


def _without_nul(value: Any) -> Any:
    if "\x00" in str(value):
        raise ValueError("PostgreSQL keeps no NUL characters")
    return value


StoredText = Annotated[str, AfterValidator(_without_nul)]


class ArchivedEvent(BaseModel):
    """A line of an export: a row of the event table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID
    type: StoredText
    source: StoredText
    subject: StoredText
    dataschema: StoredText
    data: dict[str, Any]
    time: AwareDatetime
    correlation_id: StoredText
    payload_hash: Annotated[str, StringConstraints(pattern=r"^\\x[0-9a-f]{64}$")]
    outcome: StoredText
    detail: dict[str, Any] | None
    applied_at: AwareDatetime | None = None  # exports from before it was kept have none
    recorded_at: AwareDatetime


class ArchiveCopy:
    """Writes the archive out as lines, and reads events in."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lines(self, selection: Selection) -> AsyncGenerator[bytes]:
        """Yield each event as a line, in the order of application, from one snapshot."""
        async with self._database.transaction() as connection:
            cursor = connection.cursor(
                _EXPORT,
                *to_parameters(selection),
                prefetch=PREFETCH,
                timeout=FETCH_TIMEOUT.total_seconds(),
            )
            async for row in cursor:
                yield row["line"].encode() + b"\n"

    async def add_events(self, events: Sequence[ArchivedEvent]) -> int:
        """Add events that are not there yet; returns how many those were."""
        rows = ",".join(event.model_dump_json() for event in events)
        async with self._database.connection() as connection:
            status = await connection.execute(_IMPORT, f"[{rows}]")
        return int(status.rpartition(" ")[2])
