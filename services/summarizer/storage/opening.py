"""The SQL by which a summary request begins: recorded, reused, running, joined or refused.

Batches come as one JSON parameter, `$1`. Rows are locked in the order of their ids wherever
several are, so that batches may wait for each other but never in a circle. In a batch, `$2` is
whether the leads' personal data are part of the input, `$3` the salt of its hash, and `$4` the
leads' ids: of an array the planner knows how long it is, of the JSON it does not.
"""

# ruff: noqa: S608 (only constants are put together here)

from shared.storage.lead_document import DOCUMENT_COLUMNS
from shared.storage.summary_input import summary_input

_INPUT = summary_input(personal="$2::boolean")
_REQUESTS = """
    json_to_recordset($1::json) AS request (
        id uuid, type text, source text, subject text, dataschema text, data jsonb,
        time timestamptz, correlation_id text, payload_hash bytea,
        lead_id uuid, requested_by text, reply_to text, regenerate boolean,
        may_call boolean, deadline timestamptz, reason text, detail text, failure jsonb,
        prompt_version text, provider text, model text
    )
"""

# Records the events that are new, answers from an earlier summary of the same input, and
# marks the rest as running, unless it is running already: that is a `conflict`. The commit need
# not be on disk before the work begins: until that ends the event is not acknowledged, and what
# is stored meanwhile (JOIN, FINISH) takes this with it.
OPEN = f"""
    WITH request AS (
        SELECT request.*
        FROM set_config('synchronous_commit', 'off', true), {_REQUESTS}
    ), lead AS MATERIALIZED (
        SELECT lead.id, lead.version, {_INPUT} AS input
        FROM leads.lead WHERE lead.id = ANY($4::uuid[])
        ORDER BY lead.id FOR KEY SHARE
    ), weighed AS MATERIALIZED (
        SELECT request.*, lead.version, lead.input,
               sha256(convert_to($3 || lead.input, 'UTF8')) AS input_hash
        FROM request LEFT JOIN lead ON lead.id = request.lead_id
    ), matched AS MATERIALIZED (
        SELECT weighed.*, last.id IS NOT NULL AS reusable, last.summary, last.next_action
        FROM weighed LEFT JOIN LATERAL (
            SELECT id, summary, next_action FROM leads.summary AS earlier
            WHERE earlier.lead_id = weighed.lead_id AND earlier.input_hash = weighed.input_hash
              AND earlier.state = 'succeeded' AND NOT weighed.regenerate
            ORDER BY earlier.finished_at DESC LIMIT 1
        ) AS last ON true
    ), event AS (
        INSERT INTO leads.event (
            id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
            outcome, detail
        )
        SELECT id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
               CASE WHEN version IS NULL THEN 'not-found'
                    WHEN reusable THEN 'summarised' ELSE 'accepted' END,
               CASE WHEN reusable
                    THEN jsonb_build_object('leadId', lead_id, 'summaryId', id) END
        FROM matched ORDER BY id
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
            summary_stale = lead.version <> fresh.version,
            version = lead.version + 1,
            updated_at = date_trunc('milliseconds', clock_timestamp())
        FROM fresh
        WHERE fresh.reusable AND lead.id = fresh.lead_id
          AND (lead.summary, lead.next_action, lead.summary_stale)
              IS DISTINCT FROM (fresh.summary, fresh.next_action, false)
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
"""

# The leader's row is updated, not just locked: whoever finishes it meanwhile then sees in
# that very row that somebody joined.
JOIN = f"""
    WITH request AS (
        SELECT request.*, sha256(convert_to($3 || {_INPUT}, 'UTF8')) AS input_hash, lead.version
        FROM {_REQUESTS} JOIN leads.lead ON lead.id = request.lead_id
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
"""

REFUSE = f"""
    WITH request AS (
        SELECT request.*, sha256(convert_to($3 || {_INPUT}, 'UTF8')) AS input_hash, lead.version
        FROM {_REQUESTS} JOIN leads.lead ON lead.id = request.lead_id
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
"""

# What became of the event `$1`, if its payload has the hash `$2`. `$5` is whether to take a
# running request over from the worker that had it, `$6` where one that waits for another's work
# is to be answered from now on: whoever asks again may do so through another process.
RESUME = f"""
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
           summary.reused, taken.fence, waiting.id IS NOT NULL AS waits, weighed.input,
           sha256(convert_to($4 || weighed.input, 'UTF8')) AS input_hash,
           {DOCUMENT_COLUMNS}
    FROM leads.event
    LEFT JOIN leads.summary ON summary.id = event.id
    LEFT JOIN taken ON taken.id = event.id
    LEFT JOIN waiting ON waiting.id = event.id
    LEFT JOIN leads.lead ON lead.id = summary.lead_id
    LEFT JOIN LATERAL (
        SELECT {summary_input(personal="$3::boolean")} AS input WHERE lead.id IS NOT NULL
    ) AS weighed ON true
    WHERE event.id = $1
"""

# Takes back that a replay ended the event `$1` for want of a model.
TAKE_BACK = """
    WITH refused AS (
        DELETE FROM leads.event
        WHERE id = $1 AND outcome = 'failed' AND detail ->> 'reason' = $2
        RETURNING id
    )
    DELETE FROM leads.summary USING refused WHERE summary.id = refused.id
"""

# An event whose work went with its lead, or whose worker died before there was any.
FORGET = """
    DELETE FROM leads.event
    WHERE id = $1 AND outcome = 'accepted'
      AND NOT EXISTS (SELECT FROM leads.summary WHERE summary.id = event.id)
"""
