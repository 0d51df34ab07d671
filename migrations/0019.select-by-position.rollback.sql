DROP FUNCTION leads.archived_events(text[], text[], text, timestamptz, timestamptz, bigint);
