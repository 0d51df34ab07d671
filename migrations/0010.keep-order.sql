-- One lead's events take effect in the order in which they were accepted: the partitions of ordered
-- streams, who owns each, and how far each has come.

-- What decides the partition of a lead's events: its externalId when it was made, else its id. Only
-- what those two do not say any more is kept here.
ALTER TABLE leads.lead ADD COLUMN partition_key uuid;

CREATE FUNCTION leads.partition_key(lead leads.lead) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(lead.partition_key, lead.external_id, lead.id);

-- `accepted` is where the event was first accepted (layout, partition and entry), and `changed` are
-- the columns that it really set: by both it is known what a later event has set.
ALTER TABLE leads.event
    ADD COLUMN accepted text,
    ADD COLUMN changed  text[];

-- How an ordered stream is divided. A layout is opened once the one before it is drained; until then
-- nothing is published.
CREATE TABLE leads.layout (
    stream     text        NOT NULL,
    number     integer     NOT NULL,
    partitions integer     NOT NULL CHECK (partitions BETWEEN 1 AND 256),
    opened_at  timestamptz,
    PRIMARY KEY (stream, number)
);

-- The processes that share the partitions. One whose beat stands still for a lease is dead.
CREATE TABLE leads.member (
    token   uuid   PRIMARY KEY,
    name    text   NOT NULL,
    host    text   NOT NULL,
    process text   NOT NULL,
    beat    bigint NOT NULL DEFAULT 0
);

-- `position` is the entry up to which everything is done, or held. Only the owner moves it.
CREATE TABLE leads.partition (
    stream   text    NOT NULL,
    layout   integer NOT NULL,
    number   integer NOT NULL,
    owner    uuid,
    epoch    bigint  NOT NULL DEFAULT 0,
    position text    NOT NULL DEFAULT '0-0',
    PRIMARY KEY (stream, layout, number),
    FOREIGN KEY (stream, layout) REFERENCES leads.layout ON DELETE CASCADE
) WITH (fillfactor = 10);  -- room for the next version of each row beside it

-- Entries that failed for now, and those behind them with the same key.
CREATE TABLE leads.held_entry (
    stream   text        NOT NULL,
    layout   integer     NOT NULL,
    number   integer     NOT NULL,
    entry_id text        NOT NULL,
    key      text        NOT NULL,
    subject  text,
    attempt  integer     NOT NULL,
    due_at   timestamptz NOT NULL,
    fields   bytea       NOT NULL,
    PRIMARY KEY (stream, layout, number, entry_id)
);

CREATE INDEX held_entry_subject ON leads.held_entry (subject);

-- Moves an owner's partitions to these positions and keeps them from everybody else until the
-- transaction ends. Fails when one of them is another's by now.
CREATE FUNCTION leads.fence(
    stream text, layout integer, owner uuid, numbers integer[], positions text[]
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    kept integer;
BEGIN
    UPDATE leads.partition AS partition SET position = mine.position
    FROM unnest(fence.numbers, fence.positions) AS mine (number, position)
    WHERE partition.stream = fence.stream AND partition.layout = fence.layout
      AND partition.number = mine.number AND partition.owner = fence.owner;
    GET DIAGNOSTICS kept = ROW_COUNT;
    IF kept <> cardinality(fence.numbers) THEN
        RAISE EXCEPTION 'A partition of % has another owner', fence.stream
            USING ERRCODE = 'LF001';
    END IF;
END
$$;
