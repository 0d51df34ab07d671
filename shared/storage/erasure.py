"""Erasing a person from the tables: of the lead a tombstone remains, of its events their frame.

A tombstone is the lead's id, with hashes of the keys of who must not come back.
"""

from collections.abc import Collection, Mapping
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
_ERASE_EVENTS = "UPDATE leads.event SET data = '{}' WHERE leads.is_about(event, $1::text[])"
_ERASE_SUMMARIES = """
    UPDATE leads.event SET detail = detail - '{summary,nextAction}'::text[]
    WHERE type = 'summary-requested' AND subject = ANY($1::text[]) AND detail ? 'summary'
"""
_ERASE_LETTERS = "DELETE FROM leads.dead_letter WHERE fields ->> 'subject' = ANY($1::text[])"


async def delete_leads(connection: Connection, deleted_at: Mapping[UUID, datetime]) -> None:
    """Delete leads, and leave tombstones."""
    await connection.execute(_DELETE, list(deleted_at), list(deleted_at.values()))


async def erase_records(connection: Connection, lead_ids: Collection[UUID]) -> None:
    """Erase what events and dead letters say of deleted leads."""
    texts = [str(lead_id) for lead_id in lead_ids]
    for statement in (_ERASE_EVENTS, _ERASE_SUMMARIES, _ERASE_LETTERS):
        await connection.execute(statement, texts)
