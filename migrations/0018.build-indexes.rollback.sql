DROP INDEX leads.event_recorded, leads.event_in_the_way, leads.dead_letter_subject,
    leads.event_history, leads.event_position, leads.event_version;
CREATE INDEX event_subject ON leads.event (subject, time);
DROP INDEX leads.lead_updated_at, leads.lead_last_name, leads.lead_status, leads.lead_source,
    leads.lead_country, leads.lead_has_summary;
DROP INDEX IF EXISTS leads.lead_search_trigrams, leads.lead_search_words;
