"""What operators send: which dead letters they mean, and what is to be replayed."""

from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from services.api.handlers.lead_list import Instant
from services.api.handlers.replay_runner import ACTOR
from services.api.web.paging import PageQuery
from services.api.web.problems import validation_problem
from services.api.web.query import Query
from shared.events.catalog import STREAMS, groups_of
from shared.events.replay import ReplayOrder, ReplayOrigin, Selection
from shared.storage.dead_letters import LetterSelection

LARGEST_ID = 2**63 - 1
MOST_LEADS = 1_000
MOST_TYPES = 50

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
EntryId = Annotated[str, Field(max_length=41, pattern=r"^[0-9]{1,20}(-[0-9]{1,20})?$")]


class LetterConditions(Query):
    """Which dead letters: those that meet every condition."""

    reason: Annotated[Text | None, Field(description="Only with this reason")] = None
    group: Annotated[Text | None, Field(description="Only of this consumer group")] = None
    type: Annotated[Text | None, Field(description="Only of this event type")] = None
    event_id: Annotated[Text | None, Field(description="Only this event's")] = None

    @property
    def selection(self) -> LetterSelection:
        """What the conditions select."""
        return LetterSelection(
            reason=self.reason, group=self.group, type=self.type, event_id=self.event_id
        )


class LetterListQuery(LetterConditions, PageQuery):
    """A page of dead letters, newest first."""

    after: Annotated[
        Annotated[str, Field(pattern="^[1-9][0-9]{0,18}$")] | None,
        Field(description="Only letters with a lower number than this"),
    ] = None

    @property
    def before(self) -> int | None:
        """The number at which the page begins, exclusive."""
        return None if self.after is None else min(int(self.after), LARGEST_ID)


def _known_stream(value: str) -> str:
    if value not in STREAMS:
        raise PydanticCustomError("stream", "Must be one of {names}", {"names": ", ".join(STREAMS)})
    return value


class ReplayInput(BaseModel):
    """A replay: past events that are put back into their stream for one consumer group."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    origin: Annotated[ReplayOrigin, Field(description="Where the events are read")]
    stream: Annotated[str, AfterValidator(_known_stream)] = STREAMS[0]
    group: Annotated[Text | None, Field(description="Default: the stream's only group")] = None
    types: Annotated[tuple[Text, ...], Field(max_length=MOST_TYPES)] = ()
    lead_ids: Annotated[tuple[Text, ...], Field(max_length=MOST_LEADS)] = ()
    correlation_id: Text | None = None
    since: Annotated[Instant | None, Field(description="Made at or after this time")] = None
    until: Annotated[Instant | None, Field(description="Made before this time")] = None
    first: Annotated[EntryId | None, Field(description="From this entry of the stream on")] = None
    last: Annotated[EntryId | None, Field(description="Up to this entry of the stream")] = None
    rate: Annotated[StrictInt | None, Field(ge=1, le=1_000_000, description="Events a second")] = (
        None
    )
    with_model: Annotated[
        StrictBool, Field(description="Whether summaries may call the language model again")
    ] = False
    dry_run: Annotated[
        StrictBool,
        Field(description="Only count what would be replayed: there is no asking back here"),
    ] = True

    @model_validator(mode="after")
    def _check_entry_ids(self) -> Self:
        if self.origin is ReplayOrigin.ARCHIVE and (self.first or self.last):
            raise PydanticCustomError(
                "archive", "The archive has no entry ids: use `since` and `until`"
            )
        return self

    def order(self) -> ReplayOrder:
        """Return the order; raises `Problem` 400 when it is not said for which group."""
        return ReplayOrder(
            origin=self.origin,
            stream=self.stream,
            group=self.group or _only_group(self.stream),
            selection=Selection(
                types=self.types,
                lead_ids=self.lead_ids,
                correlation_id=self.correlation_id,
                since=self.since,
                until=self.until,
            ),
            first=self.first,
            last=self.last,
            rate=self.rate,
            with_model=self.with_model,
            requested_by=ACTOR,
        )


def _only_group(stream: str) -> str:
    groups = list(groups_of(stream))
    if len(groups) == 1:
        return groups[0]
    raise validation_problem({"group": f"Must be one of: {', '.join(groups) or 'it has none'}"})
