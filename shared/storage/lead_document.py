"""The one JSON form of a lead: built by PostgreSQL, passed on as bytes by everything else."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

# Selected from a row source named `lead`. The order is the order of the keys on the wire.
LEAD_JSON = """
    row_to_json((SELECT document FROM (SELECT
        lead.id,
        lead.external_id AS "externalId",
        lead.first_name AS "firstName",
        lead.last_name AS "lastName",
        lead.email,
        lead.phone,
        lead.cell,
        lead.dob,
        lead.city,
        lead.state,
        lead.country,
        lead.picture,
        lead.summary,
        lead.next_action AS "nextAction",
        lead.summary_stale AS "summaryStale",
        lead.status,
        lead.source,
        lead.created_by AS "createdBy",
        to_char(lead.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "createdAt",
        to_char(lead.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "updatedAt",
        lead.version
    ) AS document))::text
"""

DOCUMENT_COLUMNS = f"""
    lead.id, lead.external_id, lead.version, lead.created_at, {LEAD_JSON} AS json
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadDocument:
    """A lead as clients see it. `json` is UTF-8 bytes; `version` is its ETag."""

    id: UUID
    external_id: UUID | None
    version: int
    created_at: datetime
    json: bytes
