CREATE OR REPLACE FUNCTION leads.fence(
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
