"""What remains of deleted leads: their ids, and hashes of the keys of who must not come back."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from shared.storage.pool import Connection

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
_UNBLOCK_EXTERNAL_IDS = """
    UPDATE leads.tombstone SET external_id_hash = NULL WHERE external_id_hash IN (
        SELECT leads.external_id_hash(external_id) FROM leads.lead WHERE id = ANY($1::uuid[])
    )
"""
_UNBLOCK_EMAILS = """
    UPDATE leads.tombstone SET email_key_hash = NULL WHERE email_key_hash IN (
        SELECT leads.email_key_hash(email_key) FROM leads.lead WHERE id = ANY($1::uuid[])
    )
"""

# A creation that waited for a deletion in its way began before the tombstone was there to see.
_OVERTAKEN = """
    SELECT EXISTS (
        SELECT FROM leads.lead
        JOIN leads.tombstone ON external_id_hash = leads.external_id_hash(external_id)
        WHERE id = ANY($1::uuid[])
    ) OR EXISTS (
        SELECT FROM leads.lead
        JOIN leads.tombstone ON email_key_hash = leads.email_key_hash(email_key)
        WHERE id = ANY($1::uuid[])
    )
"""


async def delete_leads(connection: Connection, deleted_at: Mapping[UUID, datetime]) -> None:
    """Delete leads, and leave tombstones."""
    await connection.execute(_DELETE, list(deleted_at), list(deleted_at.values()))


async def unblock(connection: Connection, lead_ids: Sequence[UUID]) -> None:
    """Let sources offer whom a person has made leads of again."""
    await connection.execute(_UNBLOCK_EXTERNAL_IDS, lead_ids)
    await connection.execute(_UNBLOCK_EMAILS, lead_ids)


async def are_overtaken(connection: Connection, lead_ids: Sequence[UUID]) -> bool:
    """Return whether among leads just made is one whose person is deleted by now."""
    return bool(await connection.fetchval(_OVERTAKEN, lead_ids))
