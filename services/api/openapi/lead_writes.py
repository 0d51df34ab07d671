"""Writes to leads other than their creation, described."""

from services.api.handlers.schemas import MOST_ROWS, LeadBatch, LeadPatch, LeadPut
from services.api.openapi.batch_representations import EXAMPLE_BATCH, BatchResults
from services.api.openapi.description import JSON, Answer, Body, Description, Tag
from services.api.openapi.recurring import (
    ACCEPTED,
    ETAG,
    EXTERNAL_ID,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    LEAD_KEY,
    LEAD_LINKS,
    LEAD_LOCATION,
    PREFER,
)
from services.api.openapi.representations import EXAMPLE_INPUT, Lead
from services.api.web.body import MERGE_PATCH

_CHANGES = {"city": "Paris", "state": None, "status": "contacted"}

UPDATE = Description(
    id="updateLead",
    tag=Tag.LEADS,
    summary="Change a lead",
    explanation="Only the fields in the body are changed (RFC 7396): null clears one, except "
    "`firstName`, `lastName`, `email` and `status`. What a person has changed is not overwritten "
    "by a sync. `summaryStale` tells whether the summary was written from something else.",
    parameters=(LEAD_KEY, IF_MATCH, IDEMPOTENCY_KEY, PREFER),
    body=Body(
        content={MERGE_PATCH: LeadPatch, JSON: LeadPatch},
        examples={MERGE_PATCH: _CHANGES, JSON: _CHANGES},
    ),
    answers=(
        Answer.json(200, Lead, "The lead as it is now", headers=(ETAG,), links=LEAD_LINKS),
        ACCEPTED,
    ),
    problems=(
        "lead-not-found",
        "duplicate-lead",
        "version-mismatch",
        "key-reused",
        "operation-failed",
        "unavailable",
    ),
)
DELETE = Description(
    id="deleteLead",
    tag=Tag.LEADS,
    summary="Delete a lead, and forget the person",
    explanation="What is known of the person goes, wherever it is kept. No sync and no import "
    "brings the lead back; a person may create it anew.",
    parameters=(LEAD_KEY, IF_MATCH, PREFER),
    answers=(Answer(status=204, description="The lead is gone"), ACCEPTED),
    problems=(
        "lead-not-found",
        "version-mismatch",
        "operation-failed",
        "unavailable",
    ),
)
UPSERT = Description(
    id="upsertLead",
    tag=Tag.LEADS,
    summary="Change the lead with this externalId, or create it",
    explanation="In one step, whoever else tries. Optional fields that are left out stay as they "
    "are, and null clears them: but for `externalId`, which in the body is the one in the address, "
    "null, or left out.",
    parameters=(EXTERNAL_ID, IDEMPOTENCY_KEY, PREFER),
    body=Body.json(LeadPut, **EXAMPLE_INPUT),
    answers=(
        Answer.json(200, Lead, "The lead as it is now", headers=(ETAG,), links=LEAD_LINKS),
        Answer.json(201, Lead, "A new lead", headers=(LEAD_LOCATION, ETAG), links=LEAD_LINKS),
        ACCEPTED,
    ),
    problems=("duplicate-lead", "lead-not-found", "key-reused", "operation-failed", "unavailable"),
)
BATCH = Description(
    id="writeLeads",
    tag=Tag.LEADS,
    summary="Create or upsert many leads",
    explanation=f"Up to {MOST_ROWS} rows in a body of 1 MiB. Every row has a result of its own, in "
    "the order of the rows: the status that it would have been answered with alone, and the "
    "lead, the error, or the operation that it has become. A row that is not valid fails alone.",
    parameters=(IDEMPOTENCY_KEY, PREFER),
    body=Body.json(LeadBatch, **EXAMPLE_BATCH),
    answers=(Answer.json(207, BatchResults, "What became of each row"),),
    problems=("key-reused", "unavailable"),
)
