-- Ends what is unfinished $1 after its deadline with the reason $2, the detail $3 and the outcome
-- $4. A request that waits for one that did end gets that end after all.
WITH late AS MATERIALIZED (
    SELECT id, joined_id FROM leads.summary
    WHERE state IN ('queued', 'running') AND deadline < now() - $1::interval
    ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED
), end_of AS (
    SELECT late.id, leader.summary, leader.next_action,
           CASE WHEN leader.id IS NULL THEN 'failed' ELSE leader.state END AS state,
           CASE WHEN leader.id IS NULL THEN $2 ELSE leader.reason END AS reason,
           CASE WHEN leader.id IS NULL THEN $3 ELSE leader.detail END AS detail,
           CASE WHEN leader.id IS NULL THEN 'failed' ELSE led.outcome END AS outcome,
           CASE WHEN leader.id IS NULL THEN $4::jsonb ELSE led.detail END AS event_detail
    FROM late
    LEFT JOIN leads.summary AS leader
      ON leader.id = late.joined_id AND leader.state IN ('succeeded', 'failed')
    LEFT JOIN leads.event AS led ON led.id = leader.id
), ended AS (
    UPDATE leads.summary SET
        state = end_of.state, summary = end_of.summary, next_action = end_of.next_action,
        reason = end_of.reason, detail = end_of.detail, fence = fence + 1,
        finished_at = clock_timestamp()
    FROM end_of WHERE summary.id = end_of.id
    RETURNING summary.id, summary.state, summary.reply_to, summary.lead_id
), closed AS (
    UPDATE leads.event SET outcome = end_of.outcome, detail = end_of.event_detail
    FROM end_of WHERE event.id = end_of.id
)
SELECT id, state, reply_to, lead_id FROM ended
