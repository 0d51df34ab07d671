CREATE OR REPLACE FUNCTION leads.folded(words text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN lower(regexp_replace(normalize(words, NFKD), '[\u0300-\u036f]', '', 'g')) COLLATE "C";
ALTER INDEX leads.lead_last_name ALTER COLUMN 1 SET STATISTICS -1;
ALTER INDEX leads.lead_country ALTER COLUMN 1 SET STATISTICS -1;
UPDATE leads.lead SET last_name = last_name
WHERE search_text <> ' ' || leads.folded(first_name || ' ' || last_name || ' ' || email
    || ' ' || coalesce(city, '') || ' ' || coalesce(country, ''));
