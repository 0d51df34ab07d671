-- What the list of leads is sorted, filtered and searched by. Every filter has an index that
-- goes on in the default order, so that a first page reads little more than it shows.

-- Letter case and accents do not count. No extension: `unaccent` cannot be had everywhere.
-- The collation is fixed, so that an upgrade of the operating system cannot reorder an index.
CREATE FUNCTION leads.folded(words text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN lower(regexp_replace(normalize(words, NFKD), '[\u0300-\u036f]', '', 'g')) COLLATE "C";

-- It begins with a space, so that every word does: short words are looked for at beginnings.
ALTER TABLE leads.lead ADD COLUMN search_text text COLLATE "C" NOT NULL GENERATED ALWAYS AS (
    ' ' || leads.folded(first_name || ' ' || last_name || ' ' || email
        || ' ' || coalesce(city, '') || ' ' || coalesce(country, ''))
) STORED;

-- A finer picture of the text: whether to go by its index depends on how rare a word is.
ALTER TABLE leads.lead ALTER COLUMN search_text SET STATISTICS 1000;

CREATE INDEX lead_updated_at ON leads.lead (updated_at DESC, id DESC);
CREATE INDEX lead_last_name ON leads.lead (leads.folded(last_name), id);
CREATE INDEX lead_status ON leads.lead (status, created_at DESC, id DESC);
CREATE INDEX lead_source ON leads.lead (source, created_at DESC, id DESC);
CREATE INDEX lead_country ON leads.lead (leads.folded(country), created_at DESC, id DESC);
CREATE INDEX lead_has_summary ON leads.lead ((summary IS NOT NULL), created_at DESC, id DESC);

-- A lead's history is read in the order of time, and by id where times are equal.
DROP INDEX leads.event_subject;
CREATE INDEX event_subject ON leads.event (subject, time, id);

-- Substrings are found by trigrams. Where the extension cannot be had, a search finds the
-- beginnings of words, by what every PostgreSQL has. The search looks which index is there.
--
-- New rows wait in a list for the index, which takes many at once for a third of the work.
-- Each search reads the list too: 16 MB are some 10,000 leads and 20 ms.
DO $$
DECLARE
    extension_schema text;
BEGIN
    BEGIN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file THEN
        RAISE NOTICE 'pg_trgm cannot be had here: %', SQLERRM;
    END;
    SELECT nspname INTO extension_schema
    FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
    WHERE extname = 'pg_trgm';
    IF extension_schema IS NULL THEN
        CREATE INDEX lead_search_words ON leads.lead USING gin (to_tsvector(
            'simple'::regconfig, regexp_replace(search_text, '[^[:alnum:]]+', ' ', 'g')));
    ELSE
        EXECUTE format(
            'CREATE INDEX lead_search_trigrams ON leads.lead USING gin (search_text %I.gin_trgm_ops) '
            'WITH (gin_pending_list_limit = 16384)',
            extension_schema);
    END IF;
END $$;
