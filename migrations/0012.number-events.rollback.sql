DROP FUNCTION leads.selected_events(text[], text[], text, timestamptz, timestamptz, bigint);
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
DROP INDEX leads.event_version;
ALTER TABLE leads.event DROP COLUMN position;
