"""Leads that are stored already, before a test begins."""

from shared.domain.lead import email_key
from shared.events.envelope import new_id, now
from shared.storage.lead_document import LeadDocument, LeadRepository
from shared.storage.pool import Database
from tests.support.builders import lead_fields

_INSERT = """
    INSERT INTO leads.lead (
        id, external_id, first_name, last_name, email, email_key, phone, city, country, source,
        created_at, updated_at
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'manual', $10, $10)
"""


async def store_lead(database: Database) -> LeadDocument:
    """Insert a made-up lead and return it."""
    lead, lead_id = lead_fields(), new_id()
    async with database.connection() as connection:
        await connection.execute(
            _INSERT,
            lead_id,
            lead.external_id,
            lead.first_name,
            lead.last_name,
            lead.email,
            email_key(lead.email),
            lead.phone,
            lead.city,
            lead.country,
            now(),
        )
    stored = await LeadRepository(database).get(lead_id)
    assert stored is not None
    return stored
