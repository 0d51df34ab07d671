DROP FUNCTION leads.leads_without_summary(timestamptz);
DROP FUNCTION leads.selected_dead_letters(bigint[], text, text, text, text);
DROP FUNCTION leads.selected_events(text[], text[], text, timestamptz, timestamptz, timestamptz);
