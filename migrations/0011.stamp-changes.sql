-- Whoever polls for what is new goes by the times of leads. So these are the database's, of when a
-- change was applied, and not the times at which events were made by other clocks.

-- The stamp that the lead got. Rows from before have none: there the lead has the event's `time`.
ALTER TABLE leads.event ADD COLUMN applied_at timestamptz;

-- Now, in whole milliseconds, as clients see times. The transaction is seen to be under way before
-- the clock is read, so that readers can stop below what it may still write. The clock may have been
-- set back since the transaction began.
CREATE FUNCTION leads.stamp() RETURNS timestamptz
    LANGUAGE sql VOLATILE
    RETURN CASE WHEN pg_current_xact_id() IS NOT NULL
        THEN date_trunc('milliseconds', greatest(clock_timestamp(), transaction_timestamp()))
    END;
