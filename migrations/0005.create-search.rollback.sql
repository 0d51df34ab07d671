DROP INDEX IF EXISTS leads.lead_search_trigrams, leads.lead_search_words;
DROP INDEX leads.event_subject;
CREATE INDEX event_subject ON leads.event (subject, time);
DROP INDEX leads.lead_updated_at, leads.lead_last_name, leads.lead_status, leads.lead_source,
    leads.lead_country, leads.lead_has_summary;
ALTER TABLE leads.lead DROP COLUMN search_text;
DROP FUNCTION leads.folded(text);
