-- Conditions that several queries share, said once. PostgreSQL puts the bodies of these functions
-- in place of their calls, as if they were views with parameters, so that each query has a plan of
-- its own: for that each is one SELECT, STABLE and not STRICT. The bodies are text and not parsed
-- yet, so that `*` stays all columns when a table gets another one.
--
-- A condition that is NULL does not count.

-- Applied events: about these leads, made at or after `since` and before `until`, recorded before
-- `recorded_before`. The index on the time of recording serves `since` too: no event is recorded
-- before it was made, but for a clock that is up to ten minutes late.
CREATE FUNCTION leads.selected_events(
    types text[], subjects text[], correlation text,
    since timestamptz, until timestamptz, recorded_before timestamptz
) RETURNS SETOF leads.event
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT * FROM leads.event
        WHERE (types IS NULL OR event.type = ANY(types))
          AND (subjects IS NULL OR event.subject = ANY(subjects))
          AND (correlation IS NULL OR event.correlation_id = correlation)
          AND (since IS NULL OR event.time >= since)
          AND (since IS NULL OR event.recorded_at >= since - interval '10 minutes')
          AND (until IS NULL OR event.time < until)
          AND (recorded_before IS NULL OR event.recorded_at < recorded_before)
    $$;

CREATE FUNCTION leads.selected_dead_letters(
    ids bigint[], with_reason text, of_group text, of_type text, of_event text
) RETURNS SETOF leads.dead_letter
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT * FROM leads.dead_letter AS letter
        WHERE (ids IS NULL OR letter.id = ANY(ids))
          AND (with_reason IS NULL OR letter.reason = with_reason)
          AND (of_group IS NULL OR letter.consumer_group = of_group)
          AND (of_type IS NULL OR letter.type = of_type)
          AND (of_event IS NULL OR letter.event_id = of_event)
    $$;

-- Leads created by `as_of`, without those whose summary is being written: another request would
-- only join that one.
CREATE FUNCTION leads.leads_without_summary(as_of timestamptz) RETURNS SETOF leads.lead
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT * FROM leads.lead
        WHERE lead.summary IS NULL AND lead.created_at <= as_of AND NOT EXISTS (
            SELECT FROM leads.summary
            WHERE summary.lead_id = lead.id AND summary.state IN ('queued', 'running')
        )
    $$;
