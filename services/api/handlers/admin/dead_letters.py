"""`/admin/dead-letters`, for operators: events that could not be handled, and their retry."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import Field

from services.api.handlers.operations import EXAMPLE_OPERATION_ID
from services.api.server.routing import Call
from services.api.web.endpoint import Access, Answer, Endpoint, Parameter, Tag
from services.api.web.paging import NEXT_PAGE, PageQuery, page_response
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import Query, parse_query
from services.api.web.responses import (
    Representation,
    empty_response,
    json_response,
    list_body,
    with_example,
)
from shared.administration.dead_letters import DeadLetters
from shared.storage.admin_log import AdminLog
from shared.storage.dead_letters import KeptLetter, LetterSelection

# The log of operators' actions names this actor for what was done through the API.
ACTOR = "api"
LARGEST_ID = 2**63 - 1

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]

LETTER_ID = Parameter(
    name="id",
    place="path",
    description="The letter's number",
    type=Annotated[int, Field(ge=1, le=LARGEST_ID)],
    example=17,
)


class LetterConditions(Query):
    """Which dead letters: those that meet every condition."""

    reason: Annotated[Name | None, Field(description="Only with this reason")] = None
    group: Annotated[Name | None, Field(description="Only of this consumer group")] = None
    type: Annotated[Name | None, Field(description="Only of this event type")] = None
    event_id: Annotated[Name | None, Field(description="Only this event's")] = None

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


EXAMPLE_LETTER: dict[str, Any] = {
    "id": 17,
    "deadAt": "2026-11-24T09:30:00Z",
    "group": "syncer",
    "eventId": EXAMPLE_OPERATION_ID,
    "stream": "stream:leads",
    "entryId": "1795512600000-0",
    "type": "lead-created",
    "reason": "attempts",
    "error": "TransientError: PostgreSQL: deadlock detected",
    "attempts": 5,
}


class DeadLetter(Representation):
    """An event that a group could not handle, once for each group and event."""

    model_config = with_example(**EXAMPLE_LETTER)

    id: int
    dead_at: Annotated[datetime, Field(description="When it was parked last")]
    group: str
    event_id: str
    stream: str
    entry_id: str
    type: str
    reason: str
    error: str
    attempts: int

    @classmethod
    def of_kept(cls, kept: KeptLetter) -> Self:
        """Return a letter with its number."""
        return cls(id=kept.id, dead_at=kept.dead_at, **asdict(kept.letter))


class WholeDeadLetter(DeadLetter):
    """A dead letter with its event as it stood in the stream."""

    model_config = with_example(**EXAMPLE_LETTER, fields={"type": "lead-created", "data": "{}"})

    fields_: Annotated[dict[str, str], Field(alias="fields")]


class DeadLetterCount(Representation):
    """How many dead letters of a kind there are."""

    model_config = with_example(
        consumerGroup="syncer",
        type="lead-created",
        reason="attempts",
        count=3,
        first="2026-11-24T09:30:00Z",
        last="2026-11-24T09:31:00Z",
    )

    consumer_group: str
    type: str
    reason: str
    count: int
    first: datetime
    last: datetime


class RetryReport(Representation):
    """How many letters went back into their streams, and how many were never events and stay."""

    model_config = with_example(retried=3, hopeless=0)

    retried: int
    hopeless: int


class DiscardReport(Representation):
    """How many letters were removed."""

    model_config = with_example(discarded=3)

    discarded: int


class DeadLetterHandlers:
    """Lists, shows, retries and discards dead letters; the last two are recorded."""

    def __init__(self, dead_letters: DeadLetters, actions: AdminLog) -> None:
        self._dead_letters = dead_letters
        self._letters = dead_letters.letters
        self._actions = actions

    @Endpoint(
        "GET",
        "/admin/dead-letters",
        id="listDeadLetters",
        tag=Tag.ADMINISTRATION,
        summary="List dead letters, newest first",
        access=Access.OPERATOR,
        query=LetterListQuery,
        answers=(Answer.json(200, list[DeadLetter], "A page", headers=(NEXT_PAGE,)),),
        problems=("unavailable",),
    )
    async def list_letters(self, call: Call) -> web.StreamResponse:
        """Answer with a page of letters, without the events themselves."""
        query = parse_query(LetterListQuery, call.request.query)
        letters = await self._letters.page(
            query.selection, limit=query.limit + 1, before=query.before
        )
        page = letters[: query.limit]
        return page_response(
            call.request,
            b",".join(DeadLetter.of_kept(kept).to_body() for kept in page),
            cursor=str(page[-1].id) if len(letters) > len(page) else None,
        )

    @Endpoint(
        "DELETE",
        "/admin/dead-letters",
        id="discardDeadLetters",
        tag=Tag.ADMINISTRATION,
        summary="Remove many dead letters for good",
        explanation="All that meet the conditions, one of which must be given.",
        access=Access.OPERATOR,
        query=LetterConditions,
        answers=(Answer.json(200, DiscardReport, "What was removed"),),
        problems=("unavailable",),
    )
    async def discard_many(self, call: Call) -> web.StreamResponse:
        """Remove all letters that meet the conditions."""
        discarded = await self._discard(_given_conditions(call))
        return json_response(DiscardReport(discarded=discarded).to_body())

    @Endpoint(
        "GET",
        "/admin/dead-letters/counts",
        id="countDeadLetters",
        tag=Tag.ADMINISTRATION,
        summary="Count dead letters by group, type and reason",
        access=Access.OPERATOR,
        query=LetterConditions,
        answers=(Answer.json(200, list[DeadLetterCount], "The most frequent first"),),
        problems=("unavailable",),
    )
    async def count(self, call: Call) -> web.StreamResponse:
        """Answer with numbers of letters by group, type and reason."""
        query = parse_query(LetterConditions, call.request.query)
        counts = await self._letters.counts(query.selection)
        return json_response(list_body(map(DeadLetterCount.of, counts)))

    @Endpoint(
        "POST",
        "/admin/dead-letters/retry",
        id="retryDeadLetters",
        tag=Tag.ADMINISTRATION,
        summary="Put the events of many dead letters back",
        explanation="Of all that meet the conditions, one of which must be given.",
        access=Access.OPERATOR,
        query=LetterConditions,
        answers=(Answer.json(200, RetryReport, "What was put back"),),
        problems=("unavailable",),
    )
    async def retry_many(self, call: Call) -> web.StreamResponse:
        """Put back the events of all letters that meet the conditions."""
        return await self._retry(_given_conditions(call))

    @Endpoint(
        "GET",
        "/admin/dead-letters/{id}",
        id="readDeadLetter",
        tag=Tag.ADMINISTRATION,
        summary="Show a dead letter with its event",
        access=Access.OPERATOR,
        parameters=(LETTER_ID,),
        answers=(Answer.json(200, WholeDeadLetter, "The letter"),),
        problems=("dead-letter-not-found", "unavailable"),
    )
    async def read(self, call: Call) -> web.StreamResponse:
        """Answer with a letter and its whole event."""
        kept = await self._find_letter(call)
        return json_response(WholeDeadLetter.of_kept(kept).to_body())

    @Endpoint(
        "DELETE",
        "/admin/dead-letters/{id}",
        id="discardDeadLetter",
        tag=Tag.ADMINISTRATION,
        summary="Remove a dead letter for good",
        access=Access.OPERATOR,
        parameters=(LETTER_ID,),
        answers=(Answer(status=204, description="It is removed"),),
        problems=("dead-letter-not-found", "unavailable"),
    )
    async def discard(self, call: Call) -> web.StreamResponse:
        """Remove one letter."""
        kept = await self._find_letter(call)
        await self._discard(LetterSelection(ids=(kept.id,)))
        return empty_response(204, headers={})

    @Endpoint(
        "POST",
        "/admin/dead-letters/{id}/retry",
        id="retryDeadLetter",
        tag=Tag.ADMINISTRATION,
        summary="Put a dead letter's event back into its stream",
        explanation="It goes to the group that parked it, as a first attempt; no reply is sent.",
        access=Access.OPERATOR,
        parameters=(LETTER_ID,),
        answers=(Answer.json(200, RetryReport, "What was put back"),),
        problems=("dead-letter-not-found", "unavailable"),
    )
    async def retry(self, call: Call) -> web.StreamResponse:
        """Put one letter's event back."""
        kept = await self._find_letter(call)
        return await self._retry(LetterSelection(ids=(kept.id,)))

    async def _find_letter(self, call: Call) -> KeptLetter:
        text = call.param
        if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_ID)):
            number = min(int(text), LARGEST_ID)
            for kept in await self._letters.page(LetterSelection(ids=(number,)), limit=1):
                return kept
        raise Problem("dead-letter-not-found", "There is no dead letter with this number")

    async def _retry(self, selection: LetterSelection) -> web.StreamResponse:
        async with self._actions.recording(
            "dead-letters retry", actor=ACTOR, detail=_detail(selection)
        ) as recording:
            report = await self._dead_letters.retry(selection)
            recording.affected = report.retried
        return json_response(RetryReport.of(report).to_body())

    async def _discard(self, selection: LetterSelection) -> int:
        async with self._actions.recording(
            "dead-letters discard", actor=ACTOR, detail=_detail(selection)
        ) as recording:
            recording.affected = await self._dead_letters.discard(selection)
        return recording.affected


def _given_conditions(call: Call) -> LetterSelection:
    selection = parse_query(LetterConditions, call.request.query).selection
    if selection == LetterSelection():
        raise validation_problem({"reason": "Say which: by reason, group, type or eventId"})
    return selection


def _detail(selection: LetterSelection) -> dict[str, Any]:
    return {name: value for name, value in asdict(selection).items() if value}
