-- Changes a locked lead: `$2` is JSON of the new values by column, `$3` the fields that a person
-- edited, `$4` the version. A summary is stale unless it was written from what the lead says now. The
-- partition key stays: it is kept where it does not follow any more from externalId and id.
UPDATE leads.lead SET
    (:columns, status, email_key) = ROW(:after.columns, after.status, after.email_key),
    edited_fields = $3, version = $4, updated_at = leads.stamp(),
    partition_key = nullif(leads.partition_key(before), coalesce(after.external_id, lead.id)),
    summary_stale = lead.summary IS NOT NULL AND NOT EXISTS (
        SELECT FROM leads.summary AS written
        CROSS JOIN LATERAL concat_ws(E'\n', provider, model, prompt_version, '') AS salt
        WHERE written.lead_id = lead.id AND written.state = 'succeeded'
          AND written.summary = lead.summary AND written.next_action = lead.next_action
          AND written.input_hash IN (
              leads.summary_input_hash(salt, leads.summary_input(after, false)),
              leads.summary_input_hash(salt, leads.summary_input(after, true))
          )
    )
FROM leads.lead AS before
CROSS JOIN LATERAL jsonb_populate_record(before, $2::jsonb) AS after
WHERE lead.id = $1 AND before.id = lead.id
RETURNING lead.id, lead.version, lead.edited_fields, :lead.columns, lead.status, lead.updated_at,
          lead.summary_stale, leads.partition_key(lead) AS partition_key,
          leads.lead_json(lead) AS json
