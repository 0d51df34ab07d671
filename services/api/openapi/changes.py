"""`/changes`, described."""

from services.api.handlers.changes import LAST_EVENT_ID, ChangesQuery
from services.api.openapi.description import Answer, Description, Parameter, Tag
from services.api.openapi.recurring import BUFFERING
from services.api.web.streaming import EVENT_STREAM

FOLLOW = Description(
    id="followChanges",
    tag=Tag.LEADS,
    summary="Follow the changes of all leads",
    explanation="Server-Sent Events. `lead-changed` says which lead is in which version now and "
    "why, and no more: read the lead. `gap` says that events have been missed, since they are no "
    "longer kept: read the list. The stream ends now and then, and at once for clients that are "
    "too slow: come again with the `id` of the last event.",
    parameters=(
        Parameter(
            name=LAST_EVENT_ID,
            place="header",
            description="The `id` of the last event seen",
            example="1732440612345-0",
        ),
    ),
    query=ChangesQuery,
    answers=(
        Answer(
            status=200,
            description="Events as they happen",
            content={EVENT_STREAM: str},
            headers=(BUFFERING,),
        ),
    ),
    problems=("rate-limited", "unavailable"),
)
