-- Records the events that are new, answers from an earlier summary of the same input, and marks
-- the rest as running, unless that input is running already: such a request is a `conflict`.
--
-- $1 the requests as JSON; $2 whether personal data are part of the input; $3 the salt of its
-- hash; $4 the leads' ids: the planner knows how long an array is, but not how long JSON is.
-- Rows are locked in the order of their ids: batches may wait for each other, never in a circle.
--
-- The commit need not be on disk before the work begins: the event is acknowledged only when that
-- has ended, and what is stored meanwhile (join, finish) takes this commit with it.
WITH request AS (
    SELECT request.*
    FROM set_config('synchronous_commit', 'off', true), json_to_recordset($1::json) AS request (
        id uuid, type text, source text, subject text, dataschema text, data jsonb,
        time timestamptz, correlation_id text, payload_hash bytea,
        lead_id uuid, requested_by text, reply_to text, regenerate boolean,
        may_call boolean, deadline timestamptz, prompt_version text, provider text, model text
    )
), lead AS MATERIALIZED (
    SELECT lead.id, lead.version, leads.summary_input(lead, $2) AS input
    FROM leads.lead WHERE lead.id = ANY($4::uuid[])
    ORDER BY lead.id FOR KEY SHARE
), hashed AS MATERIALIZED (
    SELECT request.*, lead.version, lead.input,
           leads.summary_input_hash($3, lead.input) AS input_hash
    FROM request LEFT JOIN lead ON lead.id = request.lead_id
), matched AS MATERIALIZED (
    SELECT hashed.*, last.id IS NOT NULL AS reusable, last.summary, last.next_action
    FROM hashed LEFT JOIN LATERAL (
        SELECT id, summary, next_action FROM leads.summary AS earlier
        WHERE earlier.lead_id = hashed.lead_id AND earlier.input_hash = hashed.input_hash
          AND earlier.state = 'succeeded' AND NOT hashed.regenerate
        ORDER BY earlier.finished_at DESC LIMIT 1
    ) AS last ON true
), held AS MATERIALIZED (
    -- Leads that have lost an earlier summary, or have one that was stale, and get it again: each
    -- by one event, which is to record their next version.
    SELECT again.event_id, lead.id, lead.version, lead.version <> again.version AS is_stale
    FROM leads.lead JOIN (
        SELECT DISTINCT ON (lead_id) matched.id AS event_id, matched.*
        FROM matched WHERE reusable ORDER BY lead_id, id
    ) AS again ON again.lead_id = lead.id
    WHERE (lead.summary, lead.next_action, lead.summary_stale)
          IS DISTINCT FROM (again.summary, again.next_action, false)
    ORDER BY lead.id FOR NO KEY UPDATE OF lead
), stamp AS MATERIALIZED (
    SELECT leads.stamp() AS applied_at
), event AS (
    INSERT INTO leads.event (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
        outcome, detail, applied_at
    )
    SELECT matched.id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
           CASE WHEN matched.version IS NULL THEN 'not-found'
                WHEN reusable THEN 'summarised' ELSE 'accepted' END,
           CASE WHEN reusable
                THEN jsonb_build_object('leadId', lead_id, 'summaryId', matched.id) END
           || CASE WHEN held.id IS NULL THEN '{}' ELSE jsonb_build_object(
                  'summary', summary, 'nextAction', next_action, 'version', held.version + 1,
                  'updatedAt', applied_at, 'summaryStale', held.is_stale
              ) END,
           applied_at
    FROM matched CROSS JOIN stamp LEFT JOIN held ON held.event_id = matched.id
    ORDER BY matched.id
    ON CONFLICT (id) DO NOTHING
    RETURNING id
), fresh AS (
    SELECT matched.* FROM matched JOIN event USING (id) WHERE version IS NOT NULL
), reused AS (
    INSERT INTO leads.summary (
        id, lead_id, state, reused, lead_version, input_hash, prompt_version, provider,
        model, summary, next_action, requested_by, reply_to, requested_at, deadline,
        started_at, finished_at
    )
    SELECT id, lead_id, 'succeeded', true, version, input_hash, prompt_version, provider,
           model, summary, next_action, requested_by, reply_to, time, deadline,
           clock_timestamp(), clock_timestamp()
    FROM fresh WHERE reusable
), restored AS (
    UPDATE leads.lead SET
        summary = fresh.summary, next_action = fresh.next_action,
        summary_stale = held.is_stale, version = held.version + 1, updated_at = applied_at
    FROM fresh JOIN held ON held.event_id = fresh.id CROSS JOIN stamp
    WHERE lead.id = held.id
), running AS (
    INSERT INTO leads.summary (
        id, lead_id, state, lead_version, input_hash, prompt_version, provider, model,
        requested_by, reply_to, requested_at, deadline, started_at
    )
    SELECT id, lead_id, 'running', version, input_hash, prompt_version, provider, model,
           requested_by, reply_to, time, deadline, clock_timestamp()
    FROM fresh WHERE may_call AND NOT reusable ORDER BY lead_id, input_hash, id
    ON CONFLICT DO NOTHING
    RETURNING id, fence
)
SELECT matched.id, matched.lead_id, matched.version, matched.input, matched.input_hash,
       running.fence,
       CASE WHEN event.id IS NULL THEN 'known'
            WHEN matched.version IS NULL THEN 'not-found'
            WHEN matched.reusable THEN 'reused'
            WHEN running.id IS NOT NULL THEN 'running'
            ELSE 'conflict' END AS fate
FROM matched
LEFT JOIN event ON event.id = matched.id
LEFT JOIN running ON running.id = matched.id
