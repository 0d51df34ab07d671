"""`/leads/{id}`: a lead, found by either of its ids, in the cache or else in PostgreSQL."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from aiohttp import hdrs, web
from pydantic import Field

from services.api.lead_lookup import NOT_FOUND, LeadLookup
from services.api.server.routing import Call
from services.api.web.endpoint import Answer, Endpoint, Header, Link, Parameter, Tag
from services.api.web.headers import ETAG, IF_NONE_MATCH, entity_tags, versions_of
from services.api.web.query import canonical_id
from services.api.web.responses import Representation, lead_response, not_modified, with_example
from shared.domain.lead import LeadStatus
from shared.domain.summary import MAX_LENGTH
from shared.events.lead_fields import DateOfBirth, Email, Name, Phone, Picture, Place

SummaryText = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]

EXAMPLE_LEAD: dict[str, Any] = {
    "id": "0192f4c4-3b5e-7c3a-9d58-0a4a3a1f6b1e",
    "externalId": "7e2d1e6c-2f5f-4e0b-9c55-8f2f3a0f6b1e",
    "firstName": "Ada",
    "lastName": "Lovelace",
    "email": "ada@example.com",
    "phone": "020 7946 0958",
    "cell": None,
    "dob": "1815-12-10",
    "city": "London",
    "state": None,
    "country": "United Kingdom",
    "picture": "https://example.com/ada.jpg",
    "summary": "Ada Lovelace is a new lead from London.",
    "nextAction": "Call to introduce the product.",
    "summaryStale": False,
    "status": "new",
    "source": "manual",
    "createdBy": "5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11",
    "createdAt": "2026-11-24T09:30:00.000Z",
    "updatedAt": "2026-11-24T09:31:12.345Z",
    "version": 2,
}


class Lead(Representation):
    """A lead. Every member is always there; what is not known is null."""

    # PostgreSQL makes the JSON: see `shared.storage.lead_document`. The tests of the API hold
    # every answer against this model.
    model_config = with_example(**EXAMPLE_LEAD)

    id: UUID
    external_id: UUID | None
    first_name: Name
    last_name: Name
    email: Email
    phone: Phone | None
    cell: Phone | None
    dob: DateOfBirth | None
    city: Place | None
    state: Place | None
    country: Place | None
    picture: Picture | None
    summary: SummaryText | None
    next_action: SummaryText | None
    summary_stale: Annotated[
        bool, Field(description="Whether the lead has changed since its summary was written")
    ]
    status: LeadStatus
    source: Annotated[str, Field(description="`manual`, or the source that the lead came from")]
    created_by: Annotated[str | None, Field(description="The id of the user who created it")]
    created_at: datetime
    updated_at: datetime
    version: Annotated[int, Field(ge=1, description="Grows by one with every change")]


LEAD_KEY = Parameter(
    name="id",
    place="path",
    description="The lead's `id` or `externalId`. Of two leads that one value names, `id` wins",
    type=UUID,
    example=EXAMPLE_LEAD["id"],
)
LEAD_LOCATION = Header(
    name="Location", description="The lead's address", example=f"/leads/{EXAMPLE_LEAD['id']}"
)
# What may be done with a lead that an answer holds.
LEAD_LINKS = {
    "read": Link(operation_id="readLead", parameters={"id": "$response.body#/id"}),
    "update": Link(operation_id="updateLead", parameters={"id": "$response.body#/id"}),
    "delete": Link(operation_id="deleteLead", parameters={"id": "$response.body#/id"}),
    "summarise": Link(operation_id="summariseLead", parameters={"id": "$response.body#/id"}),
}


class LeadHandlers:
    """Reads one lead."""

    def __init__(self, lookup: LeadLookup) -> None:
        self._lookup = lookup

    @Endpoint(
        "GET",
        "/leads/{id}",
        id="readLead",
        tag=Tag.LEADS,
        summary="Read a lead",
        parameters=(LEAD_KEY, IF_NONE_MATCH),
        answers=(
            Answer.json(200, Lead, "The lead", headers=(ETAG,), links=LEAD_LINKS),
            Answer(status=304, description="The client's copy is current", headers=(ETAG,)),
        ),
        problems=("lead-not-found", "lead-not-stored-yet", "unavailable"),
        is_bounded=True,
    )
    async def read(self, call: Call) -> web.StreamResponse:
        """Answer with the lead, or 304 when the client's copy of it is current."""
        lead = await self._lookup.find_lead(canonical_id(call.param, missing=NOT_FOUND))
        if hdrs.IF_NONE_MATCH in call.request.headers and _is_current(call.request, lead.version):
            return not_modified(version=lead.version)
        return lead_response(lead.json, version=lead.version)


def _is_current(request: web.BaseRequest, version: int) -> bool:
    # The usual header is one ETag as we gave it.
    if request.headers[hdrs.IF_NONE_MATCH] == f'"{version}"':
        return True
    tags = entity_tags(request.headers, hdrs.IF_NONE_MATCH)
    return tags is None or version in versions_of(tags)
