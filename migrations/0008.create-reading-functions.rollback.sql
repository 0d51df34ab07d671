DROP FUNCTION leads.summary_json(leads.summary);
DROP TYPE leads.summary_document;
DROP FUNCTION leads.event_json(leads.event);
DROP TYPE leads.event_document;
