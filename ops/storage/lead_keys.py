"""Which leads operators mean, who may know them by their externalIds."""

from collections.abc import Sequence
from dataclasses import replace

from shared.events.replay import Selection
from shared.storage.pool import Database

# The archive remembers leads that are gone. Each is looked for only where those before find none.
_IDS = """
    SELECT coalesce(
        (SELECT id::text FROM leads.lead WHERE id::text = key),
        (SELECT id::text FROM leads.lead WHERE external_id = key::uuid),
        (SELECT subject FROM leads.event WHERE subject = key LIMIT 1),
        (SELECT subject FROM leads.event
         WHERE outcome = 'created'
           AND coalesce(data ->> 'externalId', data #>> '{lead,externalId}') = key LIMIT 1),
        key
    ) FROM unnest($1::text[]) AS key
"""


async def with_lead_ids(database: Database, selection: Selection) -> Selection:
    """Return a selection in which externalIds are replaced by the ids of their leads.

    What names no lead stays as it is: its events may be in a stream alone.
    """
    if not selection.lead_ids:
        return selection
    return replace(selection, lead_ids=tuple(await _lead_ids(database, selection.lead_ids)))


async def _lead_ids(database: Database, keys: Sequence[str]) -> list[str]:
    async with database.connection() as connection:
        return [row[0] for row in await connection.fetch(_IDS, list(keys))]
