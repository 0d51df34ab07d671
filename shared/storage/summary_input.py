"""What a model gets to see of a lead: built by PostgreSQL, so that nothing else leaves it."""


def summary_input(*, personal: str) -> str:
    """Return the SQL expression that makes the text of a JSON object of a row named `lead`.

    `personal` is an SQL boolean: whether e-mail, phone numbers and date of birth are part of
    it. A lead's summary is stale once this text is another one.
    """
    return f"""
        json_strip_nulls(json_build_object(
            'first_name', lead.first_name,
            'last_name', lead.last_name,
            'city', lead.city,
            'state', lead.state,
            'country', lead.country,
            'status', lead.status,
            'source', lead.source,
            'created_on', to_char(lead.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
            'missing', array_remove(ARRAY[
                CASE WHEN lead.phone IS NULL AND lead.cell IS NULL THEN 'phone' END,
                CASE WHEN lead.city IS NULL THEN 'city' END,
                CASE WHEN lead.country IS NULL THEN 'country' END
            ], NULL),
            'email', CASE WHEN {personal} THEN lead.email END,
            'phone', CASE WHEN {personal} THEN lead.phone END,
            'cell', CASE WHEN {personal} THEN lead.cell END,
            'dob', CASE WHEN {personal} THEN lead.dob END
        ))::text
    """
