"""Deleted leads whom sources must not bring back, until a person makes a lead of them anew."""

from collections.abc import Sequence
from uuid import UUID

from shared.storage.pool import Connection

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


async def unblock(connection: Connection, lead_ids: Sequence[UUID]) -> None:
    """Let sources offer whom a person has made leads of again."""
    await connection.execute(_UNBLOCK_EXTERNAL_IDS, lead_ids)
    await connection.execute(_UNBLOCK_EMAILS, lead_ids)


async def are_overtaken(connection: Connection, lead_ids: Sequence[UUID]) -> bool:
    """Return whether among leads just made is one whose person is deleted by now."""
    return bool(await connection.fetchval(_OVERTAKEN, lead_ids))
