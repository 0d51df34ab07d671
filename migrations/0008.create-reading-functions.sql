-- How clients see what happened to a lead. PostgreSQL puts the bodies of these functions in place of
-- their calls, as with those of 0006.

-- An event about a lead as clients see it: the names and their order.
CREATE TYPE leads.event_document AS (
    id              uuid,
    type            text,
    source          text,
    "time"          text,
    outcome         text,
    "correlationId" text,
    data            jsonb
);

CREATE FUNCTION leads.event_json(event leads.event) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN row_to_json(ROW(
        event.id,
        event.type,
        event.source,
        leads.iso_time(event.time),
        event.outcome,
        event.correlation_id,
        event.data
    )::leads.event_document)::text;

-- A request for a lead's summary as clients see it.
CREATE TYPE leads.summary_document AS (
    id              uuid,
    "leadId"        uuid,
    state           text,
    summary         text,
    "nextAction"    text,
    "leadVersion"   bigint,
    provider        text,
    model           text,
    "promptVersion" text,
    "inputHash"     text,
    reused          boolean,
    "joinedId"      uuid,
    "tokensIn"      integer,
    "tokensOut"     integer,
    attempts        integer,
    "latencyMs"     integer,
    reason          text,
    detail          text,
    "requestedBy"   text,
    "requestedAt"   text,
    "startedAt"     text,
    "finishedAt"    text,
    deadline        text
);

CREATE FUNCTION leads.summary_json(summary leads.summary) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN row_to_json(ROW(
        summary.id,
        summary.lead_id,
        summary.state,
        summary.summary,
        summary.next_action,
        summary.lead_version,
        summary.provider,
        summary.model,
        summary.prompt_version,
        encode(summary.input_hash, 'hex'),
        summary.reused,
        summary.joined_id,
        summary.tokens_in,
        summary.tokens_out,
        summary.attempts,
        summary.latency_ms,
        summary.reason,
        summary.detail,
        summary.requested_by,
        leads.iso_time(summary.requested_at),
        leads.iso_time(summary.started_at),
        leads.iso_time(summary.finished_at),
        leads.iso_time(summary.deadline)
    )::leads.summary_document)::text;
