-- `leads.selected_events` up to a position, `last`, instead of a time. No replay meets what it puts
-- back, and none misses what was applied before it began: all of that is to be seen by then, and has
-- its number. Under a name of its own, since versions from before call the other one until they end;
-- a later version drops that.
CREATE FUNCTION leads.archived_events(
    types text[], subjects text[], correlation text,
    since timestamptz, until timestamptz, last bigint
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
          AND (last IS NULL OR event.position <= last)
    $$;
