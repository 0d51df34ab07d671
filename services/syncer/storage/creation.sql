-- Makes leads for a whole batch, with their events and the dedupe. Events known already are left
-- out by their key, leads known already by theirs, and those deleted by their tombstones; what is
-- new comes back. Rows are offered in the order of the arrays, so the earlier of two equals wins: of
-- events ($1), what these say ($2) and their leads ($3). Apart, since JSON in JSON is read twice.
-- The JSON of new leads comes back if somebody is to see one of them ($5).
--
-- An externalId must not equal another lead's id, or the value would be ambiguous. Clients do not
-- choose ids, so a look at those that are there is enough, and no key has to guard it.
--
-- A tombstone of the very lead bars all its creations. One of the same person bars sources, and
-- replays of what a person did before the deletion.
WITH request AS MATERIALIZED (
    SELECT *, unnest AS data, ordinality AS position FROM ROWS FROM (
        json_to_recordset($1::json) AS (
            event_id uuid, event_type text, event_source text, subject text, dataschema text,
            time timestamptz, correlation_id text, payload_hash bytea, accepted text,
            replayed boolean
        ),
        unnest($2::text[]),
        json_populate_recordset(NULL::leads.lead, $3::json)
    ) WITH ORDINALITY
), met AS (
    SELECT event_id, 'id' AS field, true AS bars
    FROM request AS offered
    JOIN leads.tombstone ON lead_id = offered.id
    UNION ALL
    SELECT event_id, 'externalId', source <> 'manual' OR (replayed AND time < deleted_at)
    FROM request AS offered
    JOIN leads.tombstone ON external_id_hash = leads.external_id_hash(external_id)
    UNION ALL
    SELECT event_id, 'email', source <> 'manual' OR (replayed AND time < deleted_at)
    FROM request AS offered
    JOIN leads.tombstone ON email_key_hash = leads.email_key_hash(email_key)
), tombstone AS MATERIALIZED (
    -- The alphabet has them in their order of weight.
    SELECT event_id, max(field) FILTER (WHERE bars) AS barred
    FROM met GROUP BY event_id
), namesake AS MATERIALIZED (
    SELECT id FROM leads.lead WHERE id = ANY($4::uuid[])
), stamp AS MATERIALIZED (
    SELECT leads.stamp() AS applied_at
), event AS (
    INSERT INTO leads.event (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash, accepted,
        outcome, applied_at
    )
    SELECT event_id, event_type, event_source, subject, dataschema, data::jsonb, time,
           correlation_id, payload_hash, accepted, 'created', applied_at
    FROM request CROSS JOIN stamp ORDER BY position
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), lead AS (
    INSERT INTO leads.lead AS lead (
        id, :columns, email_key, source, created_by, created_at, updated_at
    )
    SELECT offered.id, :columns, email_key, source, created_by, applied_at, applied_at
    FROM request AS offered JOIN event ON event.id = offered.event_id CROSS JOIN stamp
    WHERE event_id NOT IN (SELECT event_id FROM tombstone WHERE barred IS NOT NULL)
      AND NOT EXISTS (SELECT FROM namesake WHERE namesake.id = offered.external_id)
    ORDER BY position
    ON CONFLICT DO NOTHING
    RETURNING id, external_id, version, leads.partition_key(lead) AS partition_key,
              CASE WHEN $5 THEN leads.lead_json(lead) END AS json
)
SELECT offered.event_id, tombstone.event_id IS NOT NULL AS was_deleted, tombstone.barred, lead.*
FROM event
JOIN request AS offered ON offered.event_id = event.id
LEFT JOIN tombstone ON tombstone.event_id = event.id
LEFT JOIN lead ON lead.id = offered.id
