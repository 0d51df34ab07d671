"""The SQL by which summary requests end, and by which the leads get their summaries.

Batches come as one JSON parameter, `$1`, with the requests' ids in `$4`; rows are locked in the
order of their ids. `$2` and `$3` are what they are where requests begin.
"""

# ruff: noqa: S608 (only constants are put together here)

from shared.storage.lead_document import DOCUMENT_COLUMNS
from shared.storage.summary_input import summary_input

_INPUT = summary_input(personal="$2::boolean")

# The end of a batch of running requests, each only if its fence still holds. A summary of an
# older version of the lead does not replace one of a newer version.
FINISH = f"""
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
                sha256(convert_to($3 || {_INPUT}, 'UTF8')) <> latest.input_hash,
            version = lead.version + 1,
            updated_at = date_trunc('milliseconds', clock_timestamp())
        FROM latest JOIN locked ON locked.id = latest.lead_id
        WHERE lead.id = latest.lead_id AND NOT EXISTS (
            SELECT FROM leads.summary AS newer
            WHERE newer.lead_id = lead.id AND newer.state = 'succeeded'
              AND newer.lead_version > latest.lead_version
        )
        RETURNING {DOCUMENT_COLUMNS}, lead.updated_at
    ), closed AS (
        UPDATE leads.event SET
            outcome = result.outcome,
            -- What was written, for replays: a model would not write it again.
            detail = result.event_detail || CASE WHEN result.reason IS NULL THEN
                jsonb_build_object(
                    'summary', result.summary, 'nextAction', result.next_action,
                    'version', written.version, 'updatedAt', written.updated_at
                ) ELSE '{{}}' END
        FROM result JOIN mine USING (id) LEFT JOIN written ON written.id = mine.lead_id
        WHERE event.id = mine.id AND event.id = ANY($4::uuid[])
    )
    SELECT settled.id AS summary_id, settled.lead_id, settled.state, settled.followers, written.*
    FROM settled LEFT JOIN written ON written.id = settled.lead_id
"""

DOCUMENTS = f"SELECT {DOCUMENT_COLUMNS} FROM leads.lead WHERE lead.id = ANY($1::uuid[])"

# Gives the requests that joined the end of those they joined; returns them all, also those
# that had it before, since whoever gave it to them may have died before telling them.
RESOLVE = """
    WITH leader AS (
        SELECT * FROM leads.summary
        WHERE id = ANY($1::uuid[]) AND state IN ('succeeded', 'failed')
    ), resolved AS (
        UPDATE leads.summary SET
            state = leader.state, lead_version = leader.lead_version,
            input_hash = leader.input_hash, summary = leader.summary,
            next_action = leader.next_action, reason = leader.reason, detail = leader.detail,
            finished_at = clock_timestamp()
        FROM leader WHERE summary.joined_id = leader.id AND summary.state = 'queued'
        RETURNING summary.id, summary.reply_to, leader.id AS leader_id
    ), closed AS (
        UPDATE leads.event SET outcome = led.outcome, detail = led.detail
        FROM resolved JOIN leads.event AS led ON led.id = resolved.leader_id
        WHERE event.id = resolved.id
    )
    -- The address as it was when the row was locked: it may have changed since the snapshot.
    SELECT summary.id, CASE WHEN resolved.id IS NULL THEN summary.reply_to
                            ELSE resolved.reply_to END AS reply_to
    FROM leads.summary LEFT JOIN resolved ON resolved.id = summary.id
    WHERE joined_id = ANY($1::uuid[])
"""

# Ends what is long past its deadline. One that waits for a request that did end gets that
# end after all.
EXPIRE = """
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
        RETURNING summary.id, summary.state, summary.reply_to
    ), closed AS (
        UPDATE leads.event SET outcome = end_of.outcome, detail = end_of.event_detail
        FROM end_of WHERE event.id = end_of.id
    )
    SELECT id, state, reply_to FROM ended
"""

# Gives a lead that was lost and made again by a replay its summary back, as it was written.
RESTORE = f"""
    UPDATE leads.lead SET
        summary = event.detail ->> 'summary', next_action = event.detail ->> 'nextAction',
        version = greatest(lead.version, (event.detail ->> 'version')::bigint),
        updated_at = greatest(lead.updated_at, (event.detail ->> 'updatedAt')::timestamptz)
    FROM leads.event
    WHERE event.id = $1 AND event.outcome = 'summarised' AND event.detail ->> 'version' IS NOT NULL
      AND lead.id = event.subject::uuid AND lead.summary IS NULL
    RETURNING {DOCUMENT_COLUMNS}
"""

IS_SETTLED = "SELECT outcome <> 'accepted' FROM leads.event WHERE id = $1"
