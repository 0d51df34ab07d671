DROP FUNCTION leads.is_about(leads.event, text[]);
DROP FUNCTION leads.external_id_hash(uuid);
DROP FUNCTION leads.email_key_hash(text);
DROP FUNCTION leads.summary_input_hash(text, text);
DROP FUNCTION leads.summary_input(leads.lead, boolean);
DROP FUNCTION leads.lead_json(leads.lead);
DROP TYPE leads.lead_document;
DROP FUNCTION leads.iso_time(timestamptz);
