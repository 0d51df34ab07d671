"""`/admin`, described."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.api.handlers.admin_schemas import (
    LARGEST_ID,
    LetterConditions,
    LetterListQuery,
    ReplayInput,
)
from services.api.openapi.admin_representations import (
    DeadLetter,
    DeadLetterCount,
    DiscardReport,
    Replay,
    ReplayPlan,
    RetryReport,
    Stream,
    Sync,
    WholeDeadLetter,
)
from services.api.openapi.description import Answer, Body, Description, Header, Link, Parameter, Tag
from services.api.openapi.recurring import NEXT_PAGE, PREFER, RETRY_AFTER
from services.api.openapi.representations import EXAMPLE_OPERATION_ID, Accepted


def _location(what: str, description: str) -> Header:
    return Header(
        name="Location", description=description, example=f"/admin/{what}/{EXAMPLE_OPERATION_ID}"
    )


REPLAY_LOCATION = _location("replays", "Where to ask how far it has come")
LETTER_ID = Parameter(
    name="id",
    place="path",
    description="The letter's number",
    type=Annotated[int, Field(ge=1, le=LARGEST_ID)],
    example=17,
)
REPLAY_ID = Parameter(
    name="id",
    place="path",
    description="The replay's id",
    type=UUID,
    example=EXAMPLE_OPERATION_ID,
)
SYNC_ID = Parameter(
    name="id", place="path", description="The sync's id", type=UUID, example=EXAMPLE_OPERATION_ID
)

STREAMS = Description(
    id="listStreams",
    tag=Tag.ADMINISTRATION,
    summary="See what streams, groups and consumers are at",
    explanation="Takes a second, in which entries are counted.",
    answers=(Answer.json(200, list[Stream], "All streams"),),
    problems=("unavailable",),
)
LIST = Description(
    id="listDeadLetters",
    tag=Tag.ADMINISTRATION,
    summary="List dead letters, newest first",
    query=LetterListQuery,
    answers=(Answer.json(200, list[DeadLetter], "A page", headers=(NEXT_PAGE,)),),
    problems=("unavailable",),
)
COUNT = Description(
    id="countDeadLetters",
    tag=Tag.ADMINISTRATION,
    summary="Count dead letters by group, type and reason",
    query=LetterConditions,
    answers=(Answer.json(200, list[DeadLetterCount], "The most frequent first"),),
    problems=("unavailable",),
)
READ = Description(
    id="readDeadLetter",
    tag=Tag.ADMINISTRATION,
    summary="Show a dead letter with its event",
    parameters=(LETTER_ID,),
    answers=(Answer.json(200, WholeDeadLetter, "The letter"),),
    problems=("dead-letter-not-found", "unavailable"),
)
RETRY = Description(
    id="retryDeadLetter",
    tag=Tag.ADMINISTRATION,
    summary="Put a dead letter's event back into its stream",
    explanation="It goes to the group that parked it, as a first attempt; nobody is answered.",
    parameters=(LETTER_ID,),
    answers=(Answer.json(200, RetryReport, "What was put back"),),
    problems=("dead-letter-not-found", "unavailable"),
)
RETRY_MANY = Description(
    id="retryDeadLetters",
    tag=Tag.ADMINISTRATION,
    summary="Put the events of many dead letters back",
    explanation="Of all that meet the conditions, one of which must be given.",
    query=LetterConditions,
    answers=(Answer.json(200, RetryReport, "What was put back"),),
    problems=("unavailable",),
)
DISCARD = Description(
    id="discardDeadLetter",
    tag=Tag.ADMINISTRATION,
    summary="Remove a dead letter for good",
    parameters=(LETTER_ID,),
    answers=(Answer(status=204, description="It is removed"),),
    problems=("dead-letter-not-found", "unavailable"),
)
DISCARD_MANY = Description(
    id="discardDeadLetters",
    tag=Tag.ADMINISTRATION,
    summary="Remove many dead letters for good",
    explanation="All that meet the conditions, one of which must be given.",
    query=LetterConditions,
    answers=(Answer.json(200, DiscardReport, "What was removed"),),
    problems=("unavailable",),
)
LIST_REPLAYS = Description(
    id="listReplays",
    tag=Tag.ADMINISTRATION,
    summary="List the latest replays",
    answers=(Answer.json(200, list[Replay], "Newest first"),),
    problems=("unavailable",),
)
ORDER_REPLAY = Description(
    id="orderReplay",
    tag=Tag.ADMINISTRATION,
    summary="Put past events back for one consumer group",
    explanation=(
        "Without `dryRun: false` events are only counted. Each event keeps its id, so that what "
        "is applied stays as it is and what is missing comes back; nobody is answered. The replay "
        "runs in the process that was asked."
    ),
    body=Body.json(
        ReplayInput, origin="stream", types=["lead-created"], since="2026-11-24T00:00:00Z"
    ),
    answers=(
        Answer.json(200, ReplayPlan, "What would be replayed"),
        Answer.json(202, Replay, "It has begun", headers=(REPLAY_LOCATION,)),
    ),
    problems=("unavailable",),
)
READ_REPLAY = Description(
    id="readReplay",
    tag=Tag.ADMINISTRATION,
    summary="Ask how far a replay has come",
    parameters=(REPLAY_ID,),
    answers=(Answer.json(200, Replay, "How far it has come"),),
    problems=("replay-not-found", "unavailable"),
)
RESUME_REPLAY = Description(
    id="resumeReplay",
    tag=Tag.ADMINISTRATION,
    summary="Go on with a replay that was cut short",
    parameters=(REPLAY_ID,),
    answers=(Answer.json(202, Replay, "It goes on", headers=(REPLAY_LOCATION,)),),
    problems=("replay-not-found", "unavailable"),
)
SYNC = Description(
    id="sync",
    tag=Tag.ADMINISTRATION,
    summary="Fetch leads from the external source now",
    parameters=(PREFER,),
    answers=(
        Answer.json(200, Sync, "The sync is over, though it may have failed"),
        Answer.json(
            202,
            Accepted,
            "Accepted, and not done yet",
            headers=(_location("sync", "Where to ask what became of it"), RETRY_AFTER),
            links={
                "outcome": Link(operation_id="readSync", parameters={"id": "$response.body#/id"})
            },
        ),
    ),
    problems=("operation-failed", "unavailable"),
)
READ_SYNC = Description(
    id="readSync",
    tag=Tag.ADMINISTRATION,
    summary="Ask what became of a sync",
    parameters=(SYNC_ID,),
    answers=(Answer.json(200, Sync, "How far it has come"),),
    problems=("sync-not-found", "unavailable"),
)
