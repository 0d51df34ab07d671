"""Which leads have the keys that others are to get."""

from collections.abc import Collection, Sequence
from uuid import UUID

import asyncpg

from shared.storage.inbox import columns
from shared.storage.pool import Connection

_CONFLICTS = """
    WITH offered AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[]) WITH ORDINALITY
            AS offered (event_id, external_id, email_key, position)
    )
    SELECT DISTINCT ON (position) event_id, field, id FROM (
        SELECT event_id, position, 1 AS rank, 'externalId' AS field, lead.id
        FROM offered JOIN leads.lead USING (external_id)
        UNION ALL
        SELECT event_id, position, 2, 'externalId', lead.id
        FROM offered JOIN leads.lead ON lead.id = offered.external_id
        UNION ALL
        SELECT event_id, position, 3, 'email', lead.id
        FROM offered JOIN leads.lead USING (email_key)
    ) AS found
    WHERE id <> ALL($4::uuid[])
    ORDER BY position, rank
"""


async def find_conflicts(
    connection: Connection,
    keys: Sequence[tuple[UUID, UUID | None, str]],
    *,
    but: Collection[UUID] = (),
) -> dict[UUID, asyncpg.Record]:
    """Return the lead that each one would meet: its `id`, and the `field` they share.

    `keys` are an id of the caller's, by which the result is, the externalId and the e-mail key.
    The leads `but` do not count.
    """
    if not keys:
        return {}
    rows = await connection.fetch(_CONFLICTS, *columns(keys), list(but))
    return {row["event_id"]: row for row in rows}
