"""`/admin/replays`, for operators: past events put back for one consumer group."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

from aiohttp import web
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from services.api.handlers.admin.dead_letters import ACTOR, Name
from services.api.handlers.leads import EXAMPLE_LEAD
from services.api.handlers.operations import EXAMPLE_OPERATION_ID
from services.api.server.routing import Call
from services.api.web.body import parse, read_json_object
from services.api.web.endpoint import Access, Answer, Body, Endpoint, Header, Parameter, Tag
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import Instant, canonical_id
from services.api.web.responses import Representation, json_response, list_body, with_example
from shared.administration.replays import ReplayRunner, Replays
from shared.domain.errors import PermanentError
from shared.events.catalog import STREAMS, groups_of
from shared.events.replay import ReplayOrder, ReplayOrigin, Selection
from shared.streams.codec import entry_id, parse_entry_id
from shared.streams.replays.jobs import ReplayProgress, ReplayState
from shared.streams.replays.tally import ReplayResult

MOST_LEADS = 1_000
MOST_TYPES = 50
# The part of an order that each code of a refusal is about.
WRONG_PARTS = {"unknown-group": "group", "unknown-type": "types"}


def _full_entry_id(value: str) -> str:
    text = parse_entry_id(value)
    if text is None:
        raise PydanticCustomError("entry_id", "Is not the id of an entry, such as 1700000000000-0")
    return text


EntryId = Annotated[
    str,
    AfterValidator(_full_entry_id),
    WithJsonSchema({"type": "string", "maxLength": 41, "pattern": "^[0-9]{1,20}(-[0-9]{1,20})?$"}),
]

REPLAY_ID = Parameter(
    name="id",
    place="path",
    description="The replay's id",
    type=UUID,
    example=EXAMPLE_OPERATION_ID,
)
REPLAY_LOCATION = Header(
    name="Location",
    description="Where to ask how far it has come",
    example=f"/admin/replays/{EXAMPLE_OPERATION_ID}",
)


def _known_stream(value: str) -> str:
    if value not in STREAMS:
        raise PydanticCustomError("stream", "Must be one of {names}", {"names": ", ".join(STREAMS)})
    return value


class ReplayInput(BaseModel):
    """A replay: past events that are put back into their stream for one consumer group."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    origin: Annotated[ReplayOrigin, Field(description="Where the events are read")]
    stream: Annotated[str, AfterValidator(_known_stream)] = STREAMS[0]
    group: Annotated[Name | None, Field(description="Default: the stream's only group")] = None
    types: Annotated[tuple[Name, ...], Field(max_length=MOST_TYPES)] = ()
    lead_ids: Annotated[tuple[Name, ...], Field(max_length=MOST_LEADS)] = ()
    correlation_id: Name | None = None
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
        Field(
            description="Only count the events to go through, of which what is there already stays "
            "as it is: there is no asking back here"
        ),
    ] = True

    @model_validator(mode="after")
    def _check_entry_ids(self) -> Self:
        if self.origin is ReplayOrigin.ARCHIVE and (self.first or self.last):
            raise PydanticCustomError(
                "archive", "The archive has no entry ids: use `since` and `until`"
            )
        return self

    def _check_range(self) -> None:
        errors: dict[str, str] = {}
        if self.since and self.until and self.since >= self.until:
            errors["until"] = "Must be after `since`"
        if self.first and self.last and entry_id(self.first) > entry_id(self.last):
            errors["last"] = "Must not be before `first`"
        if errors:
            raise validation_problem(errors)

    def order(self) -> ReplayOrder:
        """Return the order; raises `Problem` 400 for a range or a group that there cannot be."""
        self._check_range()
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


class ReplayPlan(Representation):
    """The events that a replay would go through, by type; nothing was changed.

    At most so many are put back: what is there already stays as it is.
    `missing` counts applied events that are too old for the stream: the archive has them.
    """

    model_config = with_example(
        counts={"lead-created": 1200},
        missing={"lead-created": 30},
        streamBegins="2026-11-17T09:30:00Z",
    )

    counts: dict[str, int]
    missing: dict[str, int]
    stream_begins: Annotated[datetime | None, Field(description="Null: the stream holds nothing")]


class Replay(Representation):
    """A replay as it was ordered, and how far it has come."""

    model_config = with_example(
        id=EXAMPLE_OPERATION_ID,
        origin="stream",
        stream="stream:leads",
        group="syncer",
        types=["lead-created"],
        leadIds=[EXAMPLE_LEAD["id"]],
        correlationId=None,
        since="2026-11-24T00:00:00Z",
        until=None,
        first=None,
        last="1795512600000-0",
        rate=None,
        withModel=False,
        requestedBy="api",
        orderedAt="2026-11-24T09:30:00Z",
        state="finished",
        planned=1,
        examined=1200,
        added=1,
        applied=0,
        alreadyApplied=1,
        refused=0,
        dead=0,
        outstanding=0,
    )

    id: UUID
    origin: ReplayOrigin
    stream: str
    group: str
    first: str | None
    last: str | None
    rate: Annotated[int | None, Field(description="The most events a second")]
    with_model: bool
    requested_by: str
    ordered_at: datetime
    types: list[str]
    lead_ids: list[str]
    correlation_id: str | None
    since: datetime | None
    until: datetime | None
    state: ReplayState
    planned: Annotated[
        int | None,
        Field(
            description="Events to go through, as a dry run counts them; null until that is done"
        ),
    ]
    examined: int
    added: Annotated[int, Field(description="Events put back, or found to need it no more")]
    applied: Annotated[int, Field(description="Of them, those that changed something")]
    already_applied: Annotated[int, Field(description="Of them, those that changed nothing")]
    refused: Annotated[int, Field(description="Of them, those that others are in the way of")]
    dead: Annotated[int, Field(description="Of them, those that became dead letters")]
    outstanding: Annotated[int, Field(description="Of them, those without a result yet")]

    @classmethod
    def of_order(cls, order: ReplayOrder, progress: ReplayProgress) -> Self:
        """Return a replay as it was ordered, and its progress."""
        return cls(
            **asdict(order),
            **asdict(order.selection),
            state=progress.state,
            planned=progress.planned,
            examined=progress.examined,
            added=progress.added,
            applied=progress.results.get(ReplayResult.APPLIED, 0),
            already_applied=progress.results.get(ReplayResult.ALREADY_APPLIED, 0),
            refused=progress.results.get(ReplayResult.REFUSED, 0),
            dead=progress.results.get(ReplayResult.DEAD, 0),
            outstanding=progress.outstanding,
        )


class ReplayHandlers:
    """Orders replays and shows their progress."""

    def __init__(self, replays: Replays, runner: ReplayRunner, *, body_timeout: timedelta) -> None:
        self._replays = replays
        self._jobs = replays.jobs
        self._runner = runner
        self._body_timeout = body_timeout

    @Endpoint(
        "GET",
        "/admin/replays",
        id="listReplays",
        tag=Tag.ADMINISTRATION,
        summary="List the latest replays",
        access=Access.OPERATOR,
        answers=(Answer.json(200, list[Replay], "Newest first"),),
        problems=("unavailable",),
    )
    async def list_replays(self, _call: Call) -> web.StreamResponse:
        """Answer with the latest replays, newest first."""
        orders = await self._jobs.recent()
        replays = [Replay.of_order(order, await self._jobs.progress(order.id)) for order in orders]
        return json_response(list_body(replays))

    @Endpoint(
        "POST",
        "/admin/replays",
        id="orderReplay",
        tag=Tag.ADMINISTRATION,
        summary="Put past events back for one consumer group",
        explanation="Without `dryRun: false` events are only counted. Each event keeps its id, so "
        "that what is applied stays as it is and what is missing comes back; no reply is sent. "
        "The replay runs in the process that was asked.",
        access=Access.OPERATOR,
        body=Body.json(
            ReplayInput, origin="stream", types=["lead-created"], since="2026-11-24T00:00:00Z"
        ),
        answers=(
            Answer.json(200, ReplayPlan, "What it would go through"),
            Answer.json(202, Replay, "It has begun", headers=(REPLAY_LOCATION,)),
        ),
        problems=("unavailable",),
    )
    async def order(self, call: Call) -> web.StreamResponse:
        """Answer 200 with the plan of a dry run, else 202 once the replay has begun."""
        given = parse(ReplayInput, await read_json_object(call.request, within=self._body_timeout))
        order = await self._bounded(given.order())
        if given.dry_run:
            return json_response(ReplayPlan.of(await self._replays.plan(order)).to_body())
        await self._jobs.save(order)
        await self._runner.start(order)
        return await self._begun(order)

    @Endpoint(
        "GET",
        "/admin/replays/{id}",
        id="readReplay",
        tag=Tag.ADMINISTRATION,
        summary="Ask how far a replay has come",
        access=Access.OPERATOR,
        parameters=(REPLAY_ID,),
        answers=(Answer.json(200, Replay, "How far it has come"),),
        problems=("replay-not-found", "unavailable"),
    )
    async def read(self, call: Call) -> web.StreamResponse:
        """Answer with a replay and its progress."""
        order = await self._find_order(call)
        replay = Replay.of_order(order, await self._jobs.progress(order.id))
        return json_response(replay.to_body())

    @Endpoint(
        "POST",
        "/admin/replays/{id}/cancel",
        id="cancelReplay",
        tag=Tag.ADMINISTRATION,
        summary="Have a replay put nothing more back",
        explanation="Whichever process runs it, or none. What it has put back takes effect all the "
        "same, and is still counted. It can be resumed.",
        access=Access.OPERATOR,
        parameters=(REPLAY_ID,),
        answers=(Answer.json(200, Replay, "It is cancelled, also when it was before"),),
        problems=("replay-not-found", "replay-finished", "unavailable"),
    )
    async def cancel(self, call: Call) -> web.StreamResponse:
        """Cancel a replay that is not over."""
        order = await self._find_order(call)
        if not await self._jobs.cancel(order.id):
            raise Problem("replay-finished", "All of it was put back, and has come to its end")
        replay = Replay.of_order(order, await self._jobs.progress(order.id))
        return json_response(replay.to_body())

    @Endpoint(
        "POST",
        "/admin/replays/{id}/resume",
        id="resumeReplay",
        tag=Tag.ADMINISTRATION,
        summary="Go on with a replay that was cut short or cancelled",
        access=Access.OPERATOR,
        parameters=(REPLAY_ID,),
        answers=(Answer.json(202, Replay, "It goes on", headers=(REPLAY_LOCATION,)),),
        problems=("replay-not-found", "unavailable"),
    )
    async def resume(self, call: Call) -> web.StreamResponse:
        """Go on with a replay that was cut short or cancelled."""
        order = await self._find_order(call)
        await self._runner.resume(order)
        return await self._begun(order)

    async def _begun(self, order: ReplayOrder) -> web.StreamResponse:
        replay = Replay.of_order(order, await self._jobs.progress(order.id))
        headers = {"Location": f"/admin/replays/{order.id}"}
        return json_response(replay.to_body(), status=202, headers=headers)

    async def _bounded(self, order: ReplayOrder) -> ReplayOrder:
        try:
            return await self._replays.bounded(order)
        except PermanentError as error:
            raise validation_problem({WRONG_PARTS[error.code]: str(error)}) from error

    async def _find_order(self, call: Call) -> ReplayOrder:
        order = await self._jobs.find_order(canonical_id(call.param, missing="replay-not-found"))
        if order is None:
            raise Problem("replay-not-found", "There is no replay with this id, or not any more")
        return order
