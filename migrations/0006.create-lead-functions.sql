-- What several statements say of a lead, said once. PostgreSQL puts the bodies of these functions
-- in place of their calls (EXPLAIN (VERBOSE) shows the expressions and no call), so that they cost
-- nothing: for that each is one expression without a sub-select, and its volatility is declared as
-- that of its body. STABLE, not IMMUTABLE: to_char, json and convert_to are no more than that.

-- The layout of the REST contract: UTC, whole milliseconds.
CREATE FUNCTION leads.iso_time(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- A lead as clients see it: the names and their order. A type, since a row that is written in
-- place has no names for row_to_json, and json_build_object puts spaces between them.
CREATE TYPE leads.lead_document AS (
    id             uuid,
    "externalId"   uuid,
    "firstName"    text,
    "lastName"     text,
    email          text,
    phone          text,
    cell           text,
    dob            text,
    city           text,
    state          text,
    country        text,
    picture        text,
    summary        text,
    "nextAction"   text,
    "summaryStale" boolean,
    status         text,
    source         text,
    "createdBy"    text,
    "createdAt"    text,
    "updatedAt"    text,
    version        bigint
);

-- The one JSON form of a lead.
CREATE FUNCTION leads.lead_json(lead leads.lead) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN row_to_json(ROW(
        lead.id,
        lead.external_id,
        lead.first_name,
        lead.last_name,
        lead.email,
        lead.phone,
        lead.cell,
        lead.dob,
        lead.city,
        lead.state,
        lead.country,
        lead.picture,
        lead.summary,
        lead.next_action,
        lead.summary_stale,
        lead.status,
        lead.source,
        lead.created_by,
        leads.iso_time(lead.created_at),
        leads.iso_time(lead.updated_at),
        lead.version
    )::leads.lead_document)::text;

-- What a model gets to see of a lead, so that nothing else leaves the database: the text of a JSON
-- object. `personal` is whether e-mail, phone numbers and date of birth are part of it. A lead's
-- summary is stale once this text is another one.
CREATE FUNCTION leads.summary_input(lead leads.lead, personal boolean) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN json_strip_nulls(json_build_object(
        'first_name', lead.first_name,
        'last_name', lead.last_name,
        'city', lead.city,
        'state', lead.state,
        'country', lead.country,
        'status', lead.status,
        'source', lead.source,
        'created_on', to_char(lead.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
        'missing', array_remove(ARRAY[
            CASE WHEN lead.phone IS NULL AND lead.cell IS NULL THEN 'phone' END,
            CASE WHEN lead.city IS NULL THEN 'city' END,
            CASE WHEN lead.country IS NULL THEN 'country' END
        ], NULL),
        'email', CASE WHEN personal THEN lead.email END,
        'phone', CASE WHEN personal THEN lead.phone END,
        'cell', CASE WHEN personal THEN lead.cell END,
        'dob', CASE WHEN personal THEN lead.dob END
    ))::text;

-- `salt` is who writes the summary: provider, model and prompt version, each with a line end.
CREATE FUNCTION leads.summary_input_hash(salt text, input text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to(salt || input, 'UTF8'));

-- What a tombstone keeps of the keys of who was deleted.
CREATE FUNCTION leads.email_key_hash(email_key text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to(email_key, 'UTF8'));

CREATE FUNCTION leads.external_id_hash(external_id uuid) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN sha256(uuid_send(external_id));

-- Whether an event says something of the person of one of these leads: the events of the lead, and
-- those that met it in their way. Some say nothing but ids.
CREATE FUNCTION leads.is_about(event leads.event, lead_ids text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN event.type NOT IN ('lead-deleted', 'summary-requested') AND (
        event.subject = ANY(lead_ids)
        OR (event.outcome = 'duplicate' AND event.detail ->> 'leadId' = ANY(lead_ids))
    );
