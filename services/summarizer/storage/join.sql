-- Lets requests wait for the one that is running with the same input. Parameters as in open.sql.
--
-- The running request's row is updated, not just locked: the worker that finishes it at the same
-- time then sees in that very row that others joined.
WITH request AS (
    SELECT request.*, lead.version,
           leads.summary_input_hash($3, leads.summary_input(lead, $2)) AS input_hash
    FROM json_to_recordset($1::json) AS request (
        id uuid, time timestamptz, lead_id uuid, requested_by text, reply_to text,
        deadline timestamptz, prompt_version text, provider text, model text
    )
    JOIN leads.lead ON lead.id = request.lead_id
    WHERE lead.id = ANY($4::uuid[])
), waiting AS MATERIALIZED (
    SELECT id, lead_id, input_hash FROM leads.summary
    WHERE state = 'running' AND lead_id = ANY($4::uuid[])
      AND (lead_id, input_hash) IN (SELECT lead_id, input_hash FROM request)
    ORDER BY id FOR UPDATE
), leader AS (
    UPDATE leads.summary SET followers = followers + (
        SELECT count(*) FROM request
        WHERE request.lead_id = summary.lead_id AND request.input_hash = summary.input_hash
    )
    FROM waiting WHERE summary.id = waiting.id
    RETURNING summary.id, summary.lead_id, summary.input_hash
)
INSERT INTO leads.summary (
    id, lead_id, joined_id, state, lead_version, input_hash, prompt_version, provider,
    model, requested_by, reply_to, requested_at, deadline
)
SELECT request.id, request.lead_id, leader.id, 'queued', request.version,
       request.input_hash, prompt_version, provider, model, requested_by, reply_to, time,
       deadline
FROM request
JOIN leader ON leader.lead_id = request.lead_id AND leader.input_hash = request.input_hash
ORDER BY request.id
ON CONFLICT DO NOTHING
RETURNING id
