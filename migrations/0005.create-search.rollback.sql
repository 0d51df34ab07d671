ALTER TABLE leads.lead DROP COLUMN search_text;
DROP FUNCTION leads.folded(text);
