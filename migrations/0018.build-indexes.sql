-- transactional: false

-- All indexes on tables that may be large by the time of an upgrade.

-- Replays and exports read events in the order in which they were applied.
CREATE INDEX CONCURRENTLY IF NOT EXISTS event_recorded ON leads.event (recorded_at, id);

-- A deletion erases what other events say of the person: those that met the lead in their way,
-- and those that were parked.
CREATE INDEX CONCURRENTLY IF NOT EXISTS event_in_the_way ON leads.event ((detail ->> 'leadId'))
    WHERE outcome = 'duplicate';
CREATE INDEX CONCURRENTLY IF NOT EXISTS dead_letter_subject
    ON leads.dead_letter ((fields ->> 'subject'));

-- A lead's history is read in the order of time, and by id where times are equal. The index that was
-- there had no ids at first, and then the columns of this one.
SELECT $$ALTER INDEX leads.event_subject RENAME TO event_history$$ FROM pg_index
WHERE indexrelid = to_regclass('leads.event_subject') AND indnatts = 3
  AND to_regclass('leads.event_history') IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS event_history ON leads.event (subject, time, id);
DROP INDEX CONCURRENTLY IF EXISTS leads.event_subject;

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS event_position ON leads.event (position);

-- The versions that events made of leads, but for the first: a lead in an older one is behind.
CREATE INDEX CONCURRENTLY IF NOT EXISTS event_version
    ON leads.event (subject, ((detail ->> 'version')::bigint))
    WHERE outcome IN ('updated', 'summarised', 'deleted');

-- What the list of leads is sorted, filtered and searched by. Every filter has an index that goes on in
-- the default order, so that a first page reads little more than it shows.
CREATE INDEX CONCURRENTLY IF NOT EXISTS lead_updated_at ON leads.lead (updated_at DESC, id DESC);
CREATE INDEX CONCURRENTLY IF NOT EXISTS lead_last_name ON leads.lead (leads.folded(last_name), id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS lead_status
    ON leads.lead (status, created_at DESC, id DESC);
CREATE INDEX CONCURRENTLY IF NOT EXISTS lead_source
    ON leads.lead (source, created_at DESC, id DESC);
CREATE INDEX CONCURRENTLY IF NOT EXISTS lead_country
    ON leads.lead (leads.folded(country), created_at DESC, id DESC);
CREATE INDEX CONCURRENTLY IF NOT EXISTS lead_has_summary
    ON leads.lead ((summary IS NOT NULL), created_at DESC, id DESC);

-- Trigrams, or words where the extension cannot be had. The search looks which index is there.
--
-- New rows wait in a list for the index, which takes many at once for a third of the work.
-- Each search reads the list too: 16 MB are some 10,000 leads and 20 ms.
SELECT coalesce((
    SELECT format($$
        CREATE INDEX CONCURRENTLY IF NOT EXISTS lead_search_trigrams ON leads.lead
        USING gin (search_text %I.gin_trgm_ops) WITH (gin_pending_list_limit = 16384)
    $$, nspname)
    FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
    WHERE extname = 'pg_trgm'
), $$
    CREATE INDEX CONCURRENTLY IF NOT EXISTS lead_search_words ON leads.lead USING gin (
        to_tsvector('simple'::regconfig, regexp_replace(search_text, '[^[:alnum:]]+', ' ', 'g')))
$$);

-- Until statistics of a new column come by themselves, searches would be planned without any.
ANALYZE leads.lead;
ANALYZE leads.event;
