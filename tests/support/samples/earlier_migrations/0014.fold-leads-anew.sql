-- Leads whose text is folded otherwise since the migration before, a few of all: their search text and
-- their places in indexes are computed anew when any of their columns is set. One pass over the table,
-- some seconds for a million leads; it locks these rows and nothing else, and nothing that clients see of a
-- lead changes. In a transaction of its own, so that it sees all that was written by the old function.
UPDATE leads.lead SET last_name = last_name
WHERE search_text <> ' ' || leads.folded(first_name || ' ' || last_name || ' ' || email
    || ' ' || coalesce(city, '') || ' ' || coalesce(country, ''));
