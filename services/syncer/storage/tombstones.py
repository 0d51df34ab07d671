"""What remains of deleted leads: their ids, and hashes of the keys of who must not come back."""

from collections.abc import Sequence
from uuid import UUID

from shared.storage.pool import Connection


def external_id_hash(column: str) -> str:
    """Return the SQL expression of an externalId's hash."""
    return f"sha256(uuid_send({column}))"


def email_key_hash(column: str) -> str:
    """Return the SQL expression of an e-mail key's hash."""
    return f"sha256(convert_to({column}, 'UTF8'))"


_LIFT_EXTERNAL_IDS = f"""
    UPDATE leads.tombstone SET external_id_hash = NULL WHERE external_id_hash IN (
        SELECT {external_id_hash("external_id")} FROM leads.lead WHERE id = ANY($1::uuid[])
    )
"""  # noqa: S608 (constants)
_LIFT_EMAILS = f"""
    UPDATE leads.tombstone SET email_key_hash = NULL WHERE email_key_hash IN (
        SELECT {email_key_hash("email_key")} FROM leads.lead WHERE id = ANY($1::uuid[])
    )
"""  # noqa: S608 (constants)

# A creation that waited for a deletion in its way began before the tombstone was there to see.
_OVERTAKEN = f"""
    SELECT EXISTS (
        SELECT FROM leads.lead
        JOIN leads.tombstone ON external_id_hash = {external_id_hash("external_id")}
        WHERE id = ANY($1::uuid[])
    ) OR EXISTS (
        SELECT FROM leads.lead
        JOIN leads.tombstone ON email_key_hash = {email_key_hash("email_key")}
        WHERE id = ANY($1::uuid[])
    )
"""  # noqa: S608 (constants)
_BURIED = "SELECT lead_id FROM leads.tombstone WHERE lead_id = ANY($1::uuid[])"


async def lift(connection: Connection, lead_ids: Sequence[UUID]) -> None:
    """Let sources offer whom a person has made leads of again."""
    if lead_ids:
        await connection.execute(_LIFT_EXTERNAL_IDS, lead_ids)
        await connection.execute(_LIFT_EMAILS, lead_ids)


async def are_overtaken(connection: Connection, lead_ids: Sequence[UUID]) -> bool:
    """Tell whether among leads just made is one whose person is deleted by now."""
    return bool(lead_ids) and bool(await connection.fetchval(_OVERTAKEN, lead_ids))


async def buried(connection: Connection, lead_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these leads were deleted."""
    if not lead_ids:
        return set()
    return {row["lead_id"] for row in await connection.fetch(_BURIED, lead_ids)}
