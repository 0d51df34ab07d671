-- The text that leads are searched by. It is filled by 0015 and 0016, and indexed by 0018: a generated
-- column, which it was, rewrites the table under a lock that nobody gets past.

-- Letter case and accents do not count. No extension: `unaccent` cannot be had everywhere.
-- The collation is fixed, so that an upgrade of the operating system cannot reorder an index.
CREATE FUNCTION leads.folded(words text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN lower(regexp_replace(normalize(words, NFKD), '[\u0300-\u036f]', '', 'g')) COLLATE "C";

ALTER TABLE leads.lead ADD COLUMN search_text text COLLATE "C";

-- A finer picture of the text: whether to go by its index depends on how rare a word is.
ALTER TABLE leads.lead ALTER COLUMN search_text SET STATISTICS 1000;

-- Substrings are found by trigrams. Where the extension cannot be had, a search finds the
-- beginnings of words, by what every PostgreSQL has.
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file THEN
    RAISE NOTICE 'pg_trgm cannot be had here: %', SQLERRM;
END $$;
