-- The fence looks at epochs too: what was begun before a partition was lost changes nothing once the
-- same owner has it back. Another one may have parked events of it in between, and gone on.
--
-- Epochs are a setting, `leads.epochs`, in the order of the numbers. Versions from before do not set
-- it, and are fenced by their owner alone; those from now on work also before this is applied. A
-- setting of an earlier transaction is '' from then on.
CREATE OR REPLACE FUNCTION leads.fence(
    stream text, layout integer, owner uuid, numbers integer[], positions text[]
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    epochs bigint[] := nullif(current_setting('leads.epochs', true), '');
    kept integer;
BEGIN
    UPDATE leads.partition AS partition SET position = mine.position
    FROM unnest(fence.numbers, fence.positions, epochs) AS mine (number, position, epoch)
    WHERE partition.stream = fence.stream AND partition.layout = fence.layout
      AND partition.number = mine.number AND partition.owner = fence.owner
      AND (epochs IS NULL OR partition.epoch = mine.epoch);
    GET DIAGNOSTICS kept = ROW_COUNT;
    IF kept <> cardinality(fence.numbers) THEN
        RAISE EXCEPTION 'A partition of % has another owner', fence.stream
            USING ERRCODE = 'LF001';
    END IF;
END
$$;
