"""The SQL by which leads are made: for whole batches, with their events and the dedupe."""

# ruff: noqa: S608 (only constants are put together here)

from services.syncer.storage.tombstones import email_key_hash, external_id_hash
from shared.storage.lead_document import DOCUMENT_COLUMNS

# One statement for the whole batch. Events known already are left out by their key, leads
# known already by theirs, and those deleted by their tombstones; what is new comes back. Rows
# are offered in the order of the arrays, so the earlier of two equals wins.
#
# Nor may an externalId be another lead's id: one value would name both. Clients do not choose
# ids, so a look at those that are there is enough, and no key has to guard it.
#
# A tombstone of the very lead bars everybody. One of the same person bars sources, and replays
# of what a person did before the deletion.
INSERT = f"""
    WITH offered AS (
        SELECT * FROM unnest(
            $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::timestamptz[], $8::text[], $9::bytea[],
            $10::uuid[], $11::uuid[], $12::text[], $13::text[], $14::text[], $15::text[],
            $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[],
            $22::text[], $23::text[], $24::text[], $25::timestamptz[], $26::boolean[]
        ) WITH ORDINALITY AS offered (
            event_id, type, event_source, subject, dataschema, data, time, correlation_id,
            payload_hash,
            id, external_id, first_name, last_name, email, email_key, phone, cell, dob,
            city, state, country, picture, source, created_by, created_at, replayed, position
        )
    ), buried AS (
        SELECT event_id, 'id' AS field, true AS bars
        FROM offered JOIN leads.tombstone ON lead_id = offered.id
        UNION ALL
        SELECT event_id, 'externalId', source <> 'manual' OR (replayed AND created_at < deleted_at)
        FROM offered
        JOIN leads.tombstone ON external_id_hash = {external_id_hash("offered.external_id")}
        UNION ALL
        SELECT event_id, 'email', source <> 'manual' OR (replayed AND created_at < deleted_at)
        FROM offered
        JOIN leads.tombstone ON email_key_hash = {email_key_hash("offered.email_key")}
    ), tombstone AS MATERIALIZED (
        -- The alphabet has them in their order of weight.
        SELECT event_id, max(field) FILTER (WHERE bars) AS barred
        FROM buried GROUP BY event_id
    ), namesake AS MATERIALIZED (
        SELECT id FROM leads.lead WHERE id = ANY($11::uuid[])
    ), event AS (
        INSERT INTO leads.event (
            id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
            outcome
        )
        SELECT event_id, type, event_source, subject, dataschema, data::jsonb, time,
               correlation_id, payload_hash, 'created'
        FROM offered ORDER BY position
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    ), lead AS (
        INSERT INTO leads.lead (
            id, external_id, first_name, last_name, email, email_key, phone, cell, dob, city,
            state, country, picture, source, created_by, created_at, updated_at
        )
        SELECT offered.id, external_id, first_name, last_name, email, email_key, phone, cell,
               dob, city, state, country, picture, source, created_by, created_at, created_at
        FROM offered JOIN event ON event.id = offered.event_id
        WHERE event_id NOT IN (SELECT event_id FROM tombstone WHERE barred IS NOT NULL)
          AND NOT EXISTS (SELECT FROM namesake WHERE namesake.id = offered.external_id)
        ORDER BY position
        ON CONFLICT DO NOTHING
        RETURNING *
    )
    SELECT offered.event_id, tombstone.event_id IS NOT NULL AS buried, tombstone.barred,
           {DOCUMENT_COLUMNS}
    FROM event
    JOIN offered ON offered.event_id = event.id
    LEFT JOIN tombstone ON tombstone.event_id = event.id
    LEFT JOIN lead ON lead.id = offered.id
"""

RESTORE = f"""
    INSERT INTO leads.lead AS lead (
        id, external_id, first_name, last_name, email, email_key, phone, cell, dob, city,
        state, country, picture, source, created_by, created_at, updated_at
    )
    SELECT *, created_at FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::timestamptz[]
    ) AS lost (
        id, external_id, first_name, last_name, email, email_key, phone, cell, dob, city,
        state, country, picture, source, created_by, created_at
    )
    WHERE lost.id NOT IN (SELECT lead_id FROM leads.tombstone WHERE lead_id = ANY($1))
    ON CONFLICT DO NOTHING
    RETURNING {DOCUMENT_COLUMNS}
"""

# What is not to come back is not kept with the event either.
MARK = """
    UPDATE leads.event SET
        outcome = marked.outcome, detail = marked.detail::jsonb,
        data = CASE WHEN marked.outcome = 'duplicate' THEN data ELSE '{}' END
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS marked (id, outcome, detail)
    WHERE event.id = marked.id
"""

KNOWN = f"""
    SELECT event.id AS event_id, event.payload_hash, event.outcome, event.detail::text,
           {DOCUMENT_COLUMNS}
    FROM leads.event LEFT JOIN leads.lead ON lead.id = event.subject::uuid
    WHERE event.id = ANY($1::uuid[])
"""
