-- What operators did to the system by hand: who, when, what, and to how many. The number is
-- missing while an action goes on, and for good when it did not come to its end.

CREATE TABLE leads.admin_action (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text        NOT NULL,
    action   text        NOT NULL,
    affected bigint,
    detail   jsonb       NOT NULL
);

CREATE INDEX admin_action_begun_at ON leads.admin_action (begun_at DESC, id DESC);

-- Replays and exports read events in the order in which they were applied.
CREATE INDEX event_recorded ON leads.event (recorded_at, id);
