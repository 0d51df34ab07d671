-- Rows keep the text that they have; 0016 computes it anew when it is applied again.
CREATE OR REPLACE FUNCTION leads.folded(words text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN lower(regexp_replace(normalize(words, NFKD), '[\u0300-\u036f]', '', 'g')) COLLATE "C";
ALTER INDEX IF EXISTS leads.lead_last_name ALTER COLUMN 1 SET STATISTICS -1;
ALTER INDEX IF EXISTS leads.lead_country ALTER COLUMN 1 SET STATISTICS -1;
