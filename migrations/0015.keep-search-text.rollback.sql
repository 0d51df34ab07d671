-- Not needed by any older version, which finds the text kept all the same. Without it new leads have
-- no text until 0016 is applied again.
DROP TRIGGER set_search_text ON leads.lead;
DROP FUNCTION leads.set_search_text();
DROP FUNCTION leads.search_text(text, text, text, text, text);
