-- Ends a batch of running requests, each only if its fence still holds, and gives the leads their
-- summaries. A summary of an older version of the lead does not replace one of a newer version.
--
-- $1 the results as JSON, $4 their requests' ids; $2 and $3 as in open.sql. Rows are locked in
-- the order of their ids.
WITH result AS (
    SELECT * FROM json_to_recordset($1::json) AS result (
        id uuid, fence bigint, lead_version bigint, input_hash bytea, summary text,
        next_action text, reason text, detail text, tokens_in integer, tokens_out integer,
        attempts integer, latency_ms integer, outcome text, event_detail jsonb
    )
), mine AS MATERIALIZED (
    SELECT summary.id, summary.lead_id FROM leads.summary JOIN result USING (id)
    WHERE summary.id = ANY($4::uuid[])
      AND summary.fence = result.fence AND summary.state = 'running'
    ORDER BY summary.id FOR UPDATE OF summary
), locked AS MATERIALIZED (
    SELECT id FROM leads.lead WHERE id IN (SELECT lead_id FROM mine)
    ORDER BY id FOR NO KEY UPDATE
), settled AS (
    UPDATE leads.summary SET
        state = CASE WHEN result.reason IS NULL THEN 'succeeded' ELSE 'failed' END,
        lead_version = result.lead_version, input_hash = result.input_hash,
        summary = result.summary, next_action = result.next_action,
        reason = result.reason, detail = result.detail,
        tokens_in = result.tokens_in, tokens_out = result.tokens_out,
        attempts = summary.attempts + result.attempts, latency_ms = result.latency_ms,
        finished_at = clock_timestamp()
    FROM result JOIN mine USING (id)
    WHERE summary.id = mine.id AND summary.id = ANY($4::uuid[])
    RETURNING summary.*
), latest AS (
    SELECT DISTINCT ON (lead_id) * FROM settled WHERE state = 'succeeded'
    ORDER BY lead_id, lead_version DESC, id DESC
), written AS (
    UPDATE leads.lead SET
        summary = latest.summary, next_action = latest.next_action,
        summary_stale =
            leads.summary_input_hash($3, leads.summary_input(lead, $2)) <> latest.input_hash,
        version = lead.version + 1,
        updated_at = leads.stamp()
    FROM latest JOIN locked ON locked.id = latest.lead_id
    WHERE lead.id = latest.lead_id AND NOT EXISTS (
        SELECT FROM leads.summary AS newer
        WHERE newer.lead_id = lead.id AND newer.state = 'succeeded'
          AND newer.lead_version > latest.lead_version
    )
    RETURNING latest.id AS summary_id, lead.id, lead.external_id, lead.version, lead.updated_at,
              lead.summary_stale, leads.partition_key(lead) AS partition_key,
              leads.lead_json(lead) AS json
), closed AS (
    UPDATE leads.event SET
        outcome = result.outcome,
        -- What was written, for replays: a model would not write it again. Its place among the
        -- lead's other changes is the present one, not that of the request.
        detail = result.event_detail || CASE WHEN result.reason IS NULL THEN
            jsonb_build_object(
                'summary', result.summary, 'nextAction', result.next_action,
                'version', written.version, 'updatedAt', written.updated_at,
                'summaryStale', written.summary_stale
            ) ELSE '{}' END,
        position = DEFAULT,
        applied_at = coalesce(written.updated_at, event.applied_at)
    FROM result JOIN mine USING (id) LEFT JOIN written ON written.summary_id = mine.id
    WHERE event.id = mine.id AND event.id = ANY($4::uuid[])
)
SELECT settled.id AS summary_id, settled.lead_id, settled.state, settled.followers,
       written.id, written.external_id, written.version, written.partition_key, written.json
FROM settled LEFT JOIN written ON written.id = settled.lead_id
