"""Headers, parameters and answers that recur in the descriptions."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.api.openapi.description import Answer, Header, Link, Parameter
from services.api.openapi.representations import EXAMPLE_LEAD, EXAMPLE_OPERATION_ID, Accepted
from services.api.web.headers import LONGEST_KEY

_TAG = '(W/)?"[!#-~]*"'

# With every answer, whatever its status.
REQUEST_ID = Header(
    name="X-Request-Id",
    description="The request's id, as sent or made up, which is on every line of the log",
    example="4f0a8f6d2f4f-1c",
)
RATE_LIMIT_POLICY = Header(
    name="RateLimit-Policy",
    description="The limit that applies: so many calls (`q`) in so many seconds (`w`), unless "
    "limits are switched off",
    example='"user";q=3000;w=60',
    is_required=False,
)
RATE_LIMIT = Header(
    name="RateLimit",
    description="Calls that are left (`r`), and the seconds until they are renewed (`t`)",
    example='"user";r=2999;t=60',
    is_required=False,
)
LIMIT_HEADERS = (RATE_LIMIT_POLICY, RATE_LIMIT)
ETAG = Header(name="ETag", description="The lead's version", example='"2"')
LEAD_LOCATION = Header(
    name="Location", description="The lead's address", example=f"/leads/{EXAMPLE_LEAD['id']}"
)
RETRY_AFTER = Header(
    name="Retry-After", description="Seconds after which to ask again", example="2", type=int
)
NEXT_PAGE = Header(
    name="Link",
    description='The next page, as `<address>; rel="next"` (RFC 8288)',
    example='</leads?limit=100&after=AAZEv...>; rel="next"',
    is_required=False,
)
MAYBE_RETRY_AFTER = Header(
    name="Retry-After",
    description="Seconds after which to ask again",
    example="2",
    type=int,
    is_required=False,
)
BUFFERING = Header(
    name="X-Accel-Buffering",
    description="Tells proxies to pass events on as they come",
    example="no",
    is_required=False,
)
SUMMARY_CACHE = Header(
    name="X-Summary-Cache",
    description="`hit` when nothing had changed and no model was called, else `miss`",
    example="miss",
    is_required=False,
)
CHALLENGE = Header(
    name="WWW-Authenticate",
    description="How to authenticate",
    example='Bearer error="invalid_token", error_description="The token has expired"',
    is_required=False,
)

LEAD_KEY = Parameter(
    name="id",
    place="path",
    description="The lead's `id` or `externalId`. Of two leads that one value names, `id` wins",
    type=UUID,
    example=EXAMPLE_LEAD["id"],
)
EXTERNAL_ID = Parameter(
    name="externalId",
    place="path",
    description="The lead's `externalId`",
    type=UUID,
    example=EXAMPLE_LEAD["externalId"],
)
OPERATION_ID = Parameter(
    name="id",
    place="path",
    description="The id from a 202 answer",
    type=UUID,
    example=EXAMPLE_OPERATION_ID,
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="Makes it safe to send the request again: the same key with the same body has one "
    "effect and one answer, with another body it is refused",
    # Printable ASCII.
    type=Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern="^[ -~]*$")],
)
PREFER = Parameter(
    name="Prefer",
    place="header",
    description="`respond-async` (RFC 7240): answer 202 at once, without waiting for the outcome",
    example="respond-async",
)
IF_MATCH = Parameter(
    name="If-Match",
    place="header",
    description="The ETag of the lead that is meant: refused when it has changed since",
    type=Annotated[str, Field(pattern=rf"^(\*|{_TAG}(, {_TAG})*)$")],
    example='"2"',
)
IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    place="header",
    description="The ETag of a copy: 304 while it is current",
    example='"2"',
)

# What may be done with a lead that an answer holds.
LEAD_LINKS = {
    "read": Link(operation_id="readLead", parameters={"id": "$response.body#/id"}),
    "update": Link(operation_id="updateLead", parameters={"id": "$response.body#/id"}),
    "delete": Link(operation_id="deleteLead", parameters={"id": "$response.body#/id"}),
    "summarise": Link(operation_id="summariseLead", parameters={"id": "$response.body#/id"}),
}

ACCEPTED = Answer.json(
    202,
    Accepted,
    "Accepted, and not done yet: the outcome will be at `Location`",
    headers=(
        Header(
            name="Location",
            description="Where to ask what became of it",
            example=f"/operations/{EXAMPLE_OPERATION_ID}",
        ),
        RETRY_AFTER,
    ),
    links={
        "outcome": Link(operation_id="readOperation", parameters={"id": "$response.body#/id"}),
    },
)
