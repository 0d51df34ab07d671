-- Leads and their events, in a schema of their own: Supabase publishes `public` through its
-- Data API, and these tables are not for it.

CREATE SCHEMA IF NOT EXISTS leads;

CREATE TABLE leads.lead (
    id            uuid        PRIMARY KEY,
    external_id   uuid        UNIQUE,
    first_name    text        NOT NULL CHECK (char_length(first_name) BETWEEN 1 AND 50),
    last_name     text        NOT NULL CHECK (char_length(last_name) BETWEEN 1 AND 50),
    email         text        NOT NULL CHECK (char_length(email) <= 100),
    email_key     text        NOT NULL UNIQUE,
    phone         text,
    cell          text,
    dob           text,
    city          text,
    state         text,
    country       text,
    picture       text,
    summary       text        CHECK (char_length(summary) BETWEEN 1 AND 1000),
    next_action   text        CHECK (char_length(next_action) BETWEEN 1 AND 1000),
    summary_stale boolean     NOT NULL DEFAULT false,
    status        text        NOT NULL DEFAULT 'new'
                  CHECK (status IN ('new', 'contacted', 'qualified', 'unqualified', 'converted')),
    source        text        NOT NULL,
    created_by    text,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    version       bigint      NOT NULL DEFAULT 1
);

-- Newest first, with the id to break ties: the order of GET /leads and of its cursors.
CREATE INDEX lead_created_at ON leads.lead (created_at DESC, id DESC);

-- One row per applied event: inbox, idempotency record and archive for replays at once.
CREATE TABLE leads.event (
    id             uuid        PRIMARY KEY,
    type           text        NOT NULL,
    source         text        NOT NULL,
    subject        text        NOT NULL,
    dataschema     text        NOT NULL,
    data           jsonb       NOT NULL,
    time           timestamptz NOT NULL,
    correlation_id text        NOT NULL,
    payload_hash   bytea       NOT NULL,
    outcome        text        NOT NULL,
    detail         jsonb,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX event_subject ON leads.event (subject, time);
CREATE INDEX event_type_time ON leads.event (type, time, id);

-- What no retry will help: the truth about parked entries, one per group and event.
CREATE TABLE leads.dead_letter (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_group text      NOT NULL,
    event_id     text        NOT NULL,
    stream       text        NOT NULL,
    entry_id     text        NOT NULL,
    type         text        NOT NULL,
    reason       text        NOT NULL,
    error        text        NOT NULL,
    attempts     integer     NOT NULL,
    fields       jsonb       NOT NULL,
    dead_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (consumer_group, event_id)
);

CREATE INDEX dead_letter_reason ON leads.dead_letter (reason, dead_at);

-- One row per run of the scheduled sync; a tick of the schedule is run by one replica.
CREATE TABLE leads.sync_run (
    id           uuid        PRIMARY KEY,
    requested_by text        NOT NULL,
    state        text        NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz,
    seconds      double precision,
    fetched      integer     NOT NULL DEFAULT 0,
    created      integer     NOT NULL DEFAULT 0,
    duplicate    integer     NOT NULL DEFAULT 0,
    invalid      integer     NOT NULL DEFAULT 0,
    unknown      integer     NOT NULL DEFAULT 0,
    error        text
);

CREATE INDEX sync_run_started_at ON leads.sync_run (started_at DESC);
