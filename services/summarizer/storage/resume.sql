-- What the event $1 has come to, if its payload has the hash $2. $3 and $4 are $2 and $3 of
-- open.sql. $5 is whether to take a running request over from the worker that had it, $6 where
-- one that waits for another's work is to be answered from now on: a client that asks again may do
-- so through another process.
WITH taken AS (
    UPDATE leads.summary SET fence = fence + 1, started_at = clock_timestamp()
    FROM leads.event
    WHERE summary.id = $1 AND summary.state = 'running' AND $5::boolean
      AND event.id = summary.id AND event.payload_hash = $2
    RETURNING summary.id, summary.fence
), waiting AS (
    UPDATE leads.summary SET reply_to = coalesce($6, reply_to)
    FROM leads.event
    WHERE summary.id = $1 AND summary.state = 'queued'
      AND event.id = summary.id AND event.payload_hash = $2
    RETURNING summary.id
)
SELECT event.outcome, event.payload_hash = $2 AS same, event.detail::text,
       summary.state AS progress, summary.lead_id, summary.deadline, summary.followers,
       summary.reused, taken.fence, waiting.id IS NOT NULL AS waits, seen.input,
       leads.summary_input_hash($4, seen.input) AS input_hash,
       lead.id, lead.external_id, lead.version, leads.partition_key(lead) AS partition_key,
       leads.lead_json(lead) AS json
FROM leads.event
LEFT JOIN leads.summary ON summary.id = event.id
LEFT JOIN taken ON taken.id = event.id
LEFT JOIN waiting ON waiting.id = event.id
LEFT JOIN leads.lead ON lead.id = summary.lead_id
LEFT JOIN LATERAL (
    SELECT leads.summary_input(lead, $3) AS input WHERE lead.id IS NOT NULL
) AS seen ON true
WHERE event.id = $1
