"""Rows of the lead table, as a test wants them."""

import itertools
from typing import Any
from uuid import UUID

from shared.domain.lead import email_key
from shared.events.envelope import new_id, now
from shared.storage.pool import Database

_numbers = itertools.count(1)

_INSERT = """
    INSERT INTO leads.lead (
        id, external_id, first_name, last_name, email, email_key, city, country, summary,
        next_action, status, source, created_at, updated_at
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13)
"""


async def insert_lead(database: Database, **changes: Any) -> UUID:
    """Insert a made-up lead with these columns, and return its id."""
    number, time = next(_numbers), now()
    row: dict[str, Any] = {
        "id": new_id(),
        "external_id": new_id(),
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": f"lead.{number}@example.com",
        "city": "London",
        "country": "United Kingdom",
        "summary": None,
        "status": "new",
        "source": "manual",
        "created_at": time,
        "updated_at": time,
    } | changes
    row["email_key"] = email_key(row["email"])
    columns = (
        *("id", "external_id", "first_name", "last_name", "email", "email_key", "city"),
        *("country", "summary", "status", "source", "created_at", "updated_at"),
    )
    async with database.connection() as connection:
        await connection.execute(_INSERT, *(row[column] for column in columns))
    lead_id: UUID = row["id"]
    return lead_id


async def refuse_defects(database: Database) -> None:
    """Have PostgreSQL refuse leads with the last name Defect, in words that hold the whole row."""
    async with database.connection() as connection:
        await connection.execute(
            "ALTER TABLE leads.lead ADD CONSTRAINT no_more CHECK (last_name <> 'Defect') NOT VALID"
        )
