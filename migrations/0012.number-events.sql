-- Applied events are numbered in the order in which they were applied. The clock of the database,
-- which was used until now, can be set back, and two events can have the same time.
--
-- A number is drawn in the transaction that applies the event. So those of one lead are in its order:
-- whoever applies the next one has waited for that transaction, be it for the lead's row or for its
-- partition. Those of different leads may be a little out of order, which nothing depends on.

ALTER TABLE leads.event ADD COLUMN position bigint;

-- Events from before are numbered by 0017, from 1. There are fewer of them than the table, which is
-- locked by now, has bytes / 32: the head and the id of a row take more.
CREATE SEQUENCE leads.event_position_seq AS bigint OWNED BY leads.event.position;
SELECT setval('leads.event_position_seq', pg_relation_size('leads.event') / 32 + 1, false);
ALTER TABLE leads.event
    ALTER COLUMN position SET DEFAULT nextval('leads.event_position_seq'::regclass);
