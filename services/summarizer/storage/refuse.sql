-- Ends requests for which no model may be called. Parameters as in open.sql.
WITH request AS (
    SELECT request.*, lead.version,
           leads.summary_input_hash($3, leads.summary_input(lead, $2)) AS input_hash
    FROM json_to_recordset($1::json) AS request (
        id uuid, time timestamptz, lead_id uuid, requested_by text, reply_to text,
        deadline timestamptz, prompt_version text, provider text, model text,
        reason text, detail text, failure jsonb
    )
    JOIN leads.lead ON lead.id = request.lead_id
    WHERE lead.id = ANY($4::uuid[])
), refused AS (
    INSERT INTO leads.summary (
        id, lead_id, state, lead_version, input_hash, prompt_version, provider, model,
        reason, detail, requested_by, reply_to, requested_at, deadline, finished_at
    )
    SELECT id, lead_id, 'failed', version, input_hash, prompt_version, provider, model,
           reason, detail, requested_by, reply_to, time, deadline, clock_timestamp()
    FROM request
    ON CONFLICT DO NOTHING
    RETURNING id
)
UPDATE leads.event SET outcome = 'failed', detail = request.failure
FROM request JOIN refused USING (id) WHERE event.id = request.id
RETURNING event.id
