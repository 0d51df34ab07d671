"""`/leads/{id}/summary`, described."""

from dataclasses import replace

from services.api.openapi.description import JSON, Answer, Description, Parameter, Tag
from services.api.openapi.recurring import (
    ACCEPTED,
    BUFFERING,
    ETAG,
    IDEMPOTENCY_KEY,
    LEAD_KEY,
    LEAD_LINKS,
    NEXT_PAGE,
    PREFER,
    SUMMARY_CACHE,
)
from services.api.openapi.representations import Lead, LeadSummary
from services.api.web.paging import PageQuery
from services.api.web.streaming import EVENT_STREAM

REQUEST = Description(
    id="summariseLead",
    tag=Tag.SUMMARIES,
    summary="Have a lead's summary and next action written",
    explanation="Answered with the lead once a language model has written both. Nothing is written "
    "anew while the lead is what it was when its summary was written.\n\n"
    "With `Accept: text/event-stream` the answer is a stream of events: `queued`, `running`, and "
    "in the end `summarised` with the lead, `failed` with the problem, or `accepted` with the "
    "operation when it takes longer.",
    parameters=(
        LEAD_KEY,
        Parameter(
            name="regenerate",
            description="Write a new summary even when nothing has changed",
            type=bool,
        ),
        IDEMPOTENCY_KEY,
        PREFER,
    ),
    answers=(
        Answer(
            status=200,
            description="The lead with its summary",
            content={JSON: Lead, EVENT_STREAM: str},
            headers=(replace(ETAG, is_required=False), BUFFERING, SUMMARY_CACHE),
            links=LEAD_LINKS,
        ),
        ACCEPTED,
    ),
    problems=(
        "lead-not-found",
        "key-reused",
        "rate-limited",
        "operation-failed",
        "invalid-model-output",
        "summaries-unavailable",
        "unavailable",
    ),
)
LIST = Description(
    id="listLeadSummaries",
    tag=Tag.SUMMARIES,
    summary="List a lead's summaries",
    explanation="Every request for one, newest first: how far it has come, and what the text was "
    "made from.",
    parameters=(LEAD_KEY,),
    query=PageQuery,
    answers=(Answer.json(200, list[LeadSummary], "A page of summaries", headers=(NEXT_PAGE,)),),
    problems=("lead-not-found", "unavailable"),
)
