-- A run of the sync ends when its leads are published. What became of them is counted when the run
-- is read, so that no process has to wait for another one's work.

ALTER TABLE leads.sync_run
    ADD COLUMN event_ids     uuid[]      NOT NULL DEFAULT '{}',
    ADD COLUMN counted_until timestamptz;

-- A run counts as running until each of its leads has an outcome, or the time for that is over.
-- Runs from before kept their counts.
CREATE VIEW leads.sync_report AS
    SELECT run.id, run.requested_by, run.started_at, run.finished_at,
           CASE WHEN counted.missing > 0 AND clock_timestamp() < run.counted_until
                THEN 'running' ELSE run.state END AS state,
           run.fetched, run.invalid, run.error,
           run.created + counted.created AS created,
           run.duplicate + counted.duplicate AS duplicate,
           run.unknown + counted.missing AS unknown
    FROM leads.sync_run AS run CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE event.outcome = 'created')::integer AS created,
               count(*) FILTER (WHERE event.outcome <> 'created')::integer AS duplicate,
               count(*) FILTER (WHERE event.outcome IS NULL)::integer AS missing
        FROM unnest(run.event_ids) AS published (id) LEFT JOIN leads.event USING (id)
    ) AS counted;
