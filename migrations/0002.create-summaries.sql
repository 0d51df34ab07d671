-- One row per request for a summary: its state, what came of it, and where it came from.
-- A row has the id of the event that asked for it. A request that finds the same work under
-- way waits for it (`joined_id`) instead of calling the model again.

CREATE TABLE leads.summary (
    id             uuid        PRIMARY KEY,
    lead_id        uuid        NOT NULL REFERENCES leads.lead (id) ON DELETE CASCADE,
    joined_id      uuid        REFERENCES leads.summary (id) ON DELETE CASCADE,
    state          text        NOT NULL
                   CHECK (state IN ('queued', 'running', 'succeeded', 'failed')),
    -- Who may finish the row: a worker that takes over adds one, and the earlier one's
    -- result is refused.
    fence          bigint      NOT NULL DEFAULT 1,
    -- How many requests wait for this one.
    followers      integer     NOT NULL DEFAULT 0,
    lead_version   bigint      NOT NULL,
    -- SHA-256 of what the model gets to see, the prompt's version, the provider and the model.
    input_hash     bytea       NOT NULL,
    prompt_version text        NOT NULL,
    provider       text        NOT NULL,
    model          text        NOT NULL,
    summary        text        CHECK (char_length(summary) BETWEEN 1 AND 1000),
    next_action    text        CHECK (char_length(next_action) BETWEEN 1 AND 1000),
    reused         boolean     NOT NULL DEFAULT false,
    tokens_in      integer,
    tokens_out     integer,
    latency_ms     integer,
    attempts       integer     NOT NULL DEFAULT 0,
    reason         text,
    detail         text,
    requested_by   text,
    reply_to       text,
    requested_at   timestamptz NOT NULL,
    deadline       timestamptz NOT NULL,
    started_at     timestamptz,
    finished_at    timestamptz,
    CHECK (state <> 'succeeded' OR (summary IS NOT NULL AND next_action IS NOT NULL)),
    CHECK (state <> 'failed' OR reason IS NOT NULL),
    CHECK ((state IN ('succeeded', 'failed')) = (finished_at IS NOT NULL))
);

-- One model call under way per lead and input, across all replicas.
CREATE UNIQUE INDEX summary_running ON leads.summary (lead_id, input_hash)
    WHERE state = 'running';
-- What an unchanged lead is answered from.
CREATE INDEX summary_reusable ON leads.summary (lead_id, input_hash, finished_at DESC)
    WHERE state = 'succeeded';
CREATE INDEX summary_lead ON leads.summary (lead_id, requested_at DESC, id DESC);
CREATE INDEX summary_joined ON leads.summary (joined_id) WHERE joined_id IS NOT NULL;
CREATE INDEX summary_unfinished ON leads.summary (deadline) WHERE state IN ('queued', 'running');
