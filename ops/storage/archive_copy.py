"""The event archive as lines of JSON: out of one database, into another."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Annotated, Any, cast
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

from shared.events.replay import Selection
from shared.storage.event_archive import to_parameters
from shared.storage.pool import Connection, Database, fetch_batches, retry_unique_violation

# Rows fetched from the server at a time, and how long that may take.
PREFETCH = 1_000
FETCH_TIMEOUT = timedelta(minutes=2)

_EXPORT = """
    SELECT row_to_json(exported)::text AS line FROM (
        SELECT id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
               outcome, detail, applied_at, recorded_at, accepted, changed, position
        FROM leads.archived_events($1, $2, $3, $4, $5, $6) ORDER BY position
    ) AS exported
"""
_IMPORT = """
    INSERT INTO leads.event (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
        outcome, detail, applied_at, recorded_at, accepted, changed, position
    )
    SELECT id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
           outcome, detail, applied_at, recorded_at, accepted, changed,
           CASE WHEN $2 THEN position
                ELSE nextval(pg_get_serial_sequence('leads.event', 'position')) END
    FROM (
        SELECT * FROM jsonb_populate_recordset(NULL::leads.event, $1::jsonb)
        WITH ORDINALITY AS added
        WHERE NOT EXISTS (SELECT FROM leads.event WHERE event.id = added.id)
        ORDER BY ordinality
    ) AS added
    ON CONFLICT (id) DO NOTHING
"""
# Whether each of these positions is free, or the same event's.
_ARE_FREE = """
    SELECT NOT EXISTS (
        SELECT FROM leads.event JOIN unnest($1::uuid[], $2::bigint[]) AS added (id, position)
        USING (position) WHERE event.id <> added.id
    )
"""
# No event that is applied from now on gets a position up to this one.
_ADVANCE = """
    SELECT setval(pg_get_serial_sequence('leads.event', 'position'), $1)
    FROM leads.event_position_seq WHERE last_value < $1
"""


def _has_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(map(_has_nul, cast("dict[str, object]", value).items()))
        case list() | tuple():
            return any(map(_has_nul, cast("Sequence[object]", value)))
        case _:
            return False


def _without_nul(value: Any) -> Any:
    if _has_nul(value):
        raise ValueError("PostgreSQL keeps no NUL characters")
    return value


StoredText = Annotated[str, AfterValidator(_without_nul)]
StoredJson = Annotated[dict[str, Any], AfterValidator(_without_nul)]
# Positions go on behind the last one that is imported: as many are left again.
LARGEST_POSITION = 2**62


class ArchivedEvent(BaseModel):
    """A line of an export: a row of the event table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID
    type: StoredText
    source: StoredText
    subject: StoredText
    dataschema: StoredText
    data: StoredJson
    time: AwareDatetime
    correlation_id: StoredText
    payload_hash: Annotated[str, StringConstraints(pattern=r"^\\x[0-9a-f]{64}$")]
    outcome: StoredText
    detail: StoredJson | None
    applied_at: AwareDatetime | None = None  # exports from before it was kept have none
    recorded_at: AwareDatetime
    # Exports of earlier versions have none of these.
    accepted: StoredText | None = None
    changed: tuple[StoredText, ...] | None = None
    position: Annotated[int, Field(ge=1, le=LARGEST_POSITION)] | None = None


class ArchiveCopy:
    """Writes the archive out as lines, and reads events in.

    Events keep their positions until one is another event's in this archive: that one and all
    after it get new ones. Either way they keep their order.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keeps_positions = True

    async def lines(self, selection: Selection) -> AsyncGenerator[bytes]:
        """Yield each event as a line, in the order of application, from one snapshot."""
        async with self._database.transaction() as connection:
            batches = fetch_batches(
                connection,
                _EXPORT,
                *to_parameters(selection),
                size=PREFETCH,
                within=FETCH_TIMEOUT,
            )
            async with contextlib.aclosing(batches):
                async for rows in batches:
                    for row in rows:
                        yield row["line"].encode() + b"\n"

    async def add_events(self, events: Sequence[ArchivedEvent]) -> int:
        """Add events that are not there yet; returns how many those were."""
        return await retry_unique_violation(lambda: self._add_events(events))

    async def _add_events(self, events: Sequence[ArchivedEvent]) -> int:
        rows = ",".join(event.model_dump_json() for event in events)
        async with self._database.transaction() as connection:
            self._keeps_positions = self._keeps_positions and await _are_free(connection, events)
            status = await connection.execute(_IMPORT, f"[{rows}]", self._keeps_positions)
        return int(status.rpartition(" ")[2])


async def _are_free(connection: Connection, events: Sequence[ArchivedEvent]) -> bool:
    """Return whether events can have their own positions; if so, nothing else gets these."""
    positions = [event.position for event in events if event.position is not None]
    if len(positions) < len(events):
        return False
    await connection.execute(_ADVANCE, max(positions))
    ids = [event.id for event in events]
    return bool(await connection.fetchval(_ARE_FREE, ids, positions))
