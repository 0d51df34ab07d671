"""`/leads`, described."""

from services.api.handlers.lead_list import LeadExportQuery, LeadListQuery
from services.api.handlers.schemas import LeadInput
from services.api.openapi.description import Answer, Body, Description, Header, Tag
from services.api.openapi.recurring import (
    ACCEPTED,
    ETAG,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    LEAD_KEY,
    LEAD_LINKS,
    LEAD_LOCATION,
    NEXT_PAGE,
    PREFER,
)
from services.api.openapi.representations import EXAMPLE_INPUT, Lead, LeadEvent
from services.api.web.paging import PageQuery

CREATE = Description(
    id="createLead",
    tag=Tag.LEADS,
    summary="Create a lead",
    explanation="Answered once the lead is stored. When that takes too long, or the client prefers "
    "not to wait, the answer is 202: the lead is accepted, and stored as soon as possible.\n\n"
    "No two leads have the same `externalId`, or e-mail addresses that differ in nothing but the "
    "case of letters, and no `externalId` is another lead's `id`: the conflict names the `field` "
    "and the `leadId` of the lead that has it.",
    parameters=(IDEMPOTENCY_KEY, PREFER),
    body=Body.json(LeadInput, **EXAMPLE_INPUT),
    answers=(
        Answer.json(
            201,
            Lead,
            "The lead is stored",
            headers=(
                LEAD_LOCATION,
                ETAG,
            ),
            links=LEAD_LINKS,
        ),
        ACCEPTED,
    ),
    problems=("duplicate-lead", "lead-not-found", "key-reused", "operation-failed", "unavailable"),
)
LIST = Description(
    id="listLeads",
    tag=Tag.LEADS,
    summary="List leads",
    explanation="A page is an array. `Link` leads to the next one, until the last: follow it as it "
    "is. Pages are stable while leads are added.",
    query=LeadListQuery,
    answers=(
        Answer.json(
            200,
            list[Lead],
            "A page of leads",
            headers=(
                NEXT_PAGE,
                Header(
                    name="X-Total-Count",
                    description="How many leads the list has, with `count=exact`",
                    example="1234",
                    type=int,
                    is_required=False,
                ),
            ),
        ),
    ),
    problems=("unavailable",),
)
READ = Description(
    id="readLead",
    tag=Tag.LEADS,
    summary="Read a lead",
    parameters=(LEAD_KEY, IF_NONE_MATCH),
    answers=(
        Answer.json(200, Lead, "The lead", headers=(ETAG,), links=LEAD_LINKS),
        Answer(status=304, description="The client's copy is current", headers=(ETAG,)),
    ),
    problems=("lead-not-found", "unavailable"),
)
EXPORT = Description(
    id="exportLeads",
    tag=Tag.LEADS,
    summary="Export leads",
    explanation="All leads that the parameters leave, oldest first, as they are at one moment. In "
    "CSV, a cell that a spreadsheet would run as a formula begins with an apostrophe; imports "
    "take it away again. A file that breaks off ends without the last chunk of the transfer.",
    query=LeadExportQuery,
    answers=(
        Answer(
            status=200,
            description="The leads, one to a line",
            content={"application/x-ndjson": str, "text/csv": str},
            headers=(
                Header(
                    name="Content-Disposition",
                    description="A name for the file",
                    example='attachment; filename="leads-2026-11-24.csv"',
                ),
            ),
        ),
    ),
    problems=("rate-limited", "unavailable"),
)
HISTORY = Description(
    id="listLeadEvents",
    tag=Tag.LEADS,
    summary="List a lead's events",
    explanation="What was asked of the lead and what came of it, newest first. Of a deleted lead, "
    "its `id` still finds the events, without what they said of the person.",
    parameters=(LEAD_KEY,),
    query=PageQuery,
    answers=(Answer.json(200, list[LeadEvent], "A page of events", headers=(NEXT_PAGE,)),),
    problems=("lead-not-found", "unavailable"),
)
