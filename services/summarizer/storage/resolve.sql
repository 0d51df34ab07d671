-- Gives the requests that joined $1 its end. Returns all who joined, also those that had the end
-- before: the process that gave it to them may have died before it answered them.
WITH leader AS (
    SELECT * FROM leads.summary WHERE id = $1 AND state IN ('succeeded', 'failed')
), resolved AS (
    UPDATE leads.summary SET
        state = leader.state, lead_version = leader.lead_version,
        input_hash = leader.input_hash, summary = leader.summary,
        next_action = leader.next_action, reason = leader.reason, detail = leader.detail,
        finished_at = clock_timestamp()
    FROM leader WHERE summary.joined_id = leader.id AND summary.state = 'queued'
    RETURNING summary.id, summary.reply_to
), closed AS (
    UPDATE leads.event SET outcome = led.outcome, detail = led.detail
    FROM resolved JOIN leads.event AS led ON led.id = $1
    WHERE event.id = resolved.id
)
-- The address as it was when the row was locked: it may have changed since the snapshot.
SELECT summary.id, CASE WHEN resolved.id IS NULL THEN summary.reply_to
                        ELSE resolved.reply_to END AS reply_to
FROM leads.summary LEFT JOIN resolved ON resolved.id = summary.id
WHERE joined_id = $1
