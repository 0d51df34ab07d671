"""What operators' routes answer with, as models for the document."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from services.api.openapi.representations import (
    EXAMPLE_LEAD,
    EXAMPLE_OPERATION_ID,
    Representation,
    with_example,
)
from shared.events.replay import ReplayOrigin
from shared.storage.sync_run_repository import SyncState
from shared.streams.replays.jobs import ReplayState

Seconds = Annotated[float, Field(ge=0, description="In seconds")]

EXAMPLE_CONSUMER = {"name": "syncer-4711", "idle": 0.35, "pending": 0}
EXAMPLE_GROUP = {
    "name": "syncer",
    "lastDelivered": "1795512600000-0",
    "undelivered": 0,
    "pending": 0,
    "oldestPending": None,
    "retries": 0,
    "consumers": [EXAMPLE_CONSUMER],
}
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


class Consumer(Representation):
    """One consumer of a group."""

    model_config = with_example(**EXAMPLE_CONSUMER)

    name: str
    idle: Annotated[Seconds, Field(description="Seconds since it last asked for anything")]
    pending: Annotated[int, Field(description="Entries that it holds")]


class ConsumerGroup(Representation):
    """One group of a stream."""

    model_config = with_example(**EXAMPLE_GROUP)

    name: str
    last_delivered: Annotated[str, Field(description="The last entry that a consumer was given")]
    undelivered: Annotated[int | None, Field(description="Null: many, and Redis cannot tell")]
    pending: Annotated[int, Field(description="Entries that are not acknowledged")]
    oldest_pending: Annotated[
        float | None, Field(description="Seconds since the oldest of them was added")
    ]
    retries: Annotated[int, Field(description="Events that wait for another attempt")]
    consumers: list[Consumer]


class Stream(Representation):
    """One stream; ids are null and figures 0 when it is empty or not there."""

    model_config = with_example(
        name="stream:leads",
        exists=True,
        length=1200,
        memory=493_120,
        first="1795512000000-0",
        last="1795512600000-0",
        added=1200,
        perSecond=2.0,
        groups=[EXAMPLE_GROUP],
    )

    name: str
    exists: bool
    length: int
    memory: Annotated[int, Field(description="In bytes")]
    first: str | None
    last: str | None
    added: Annotated[int, Field(description="Entries ever added")]
    per_second: Annotated[float | None, Field(description="Entries added a second, just now")]
    groups: list[ConsumerGroup]


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


class ReplayPlan(Representation):
    """What a replay would put back, by event type; nothing was changed.

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
        examined=1200,
        added=1,
        applied=0,
        alreadyApplied=1,
        dead=0,
        outstanding=0,
    )

    id: UUID
    origin: ReplayOrigin
    stream: str
    group: str
    types: list[str]
    lead_ids: list[str]
    correlation_id: str | None
    since: datetime | None
    until: datetime | None
    first: str | None
    last: str | None
    rate: Annotated[int | None, Field(description="The most events a second")]
    with_model: bool
    requested_by: str
    ordered_at: datetime
    state: ReplayState
    examined: int
    added: Annotated[int, Field(description="Events put back")]
    applied: Annotated[int, Field(description="Of them, those that changed something")]
    already_applied: Annotated[int, Field(description="Of them, those that changed nothing")]
    dead: Annotated[int, Field(description="Of them, those that became dead letters")]
    outstanding: Annotated[int, Field(description="Of them, those that nobody has reported on yet")]


class Sync(Representation):
    """A sync with the external source, and what became of the leads."""

    model_config = with_example(
        id=EXAMPLE_OPERATION_ID,
        state="succeeded",
        fetched=10,
        created=9,
        duplicate=1,
        invalid=0,
        unknown=0,
        error=None,
    )

    id: UUID
    state: SyncState
    fetched: int
    created: int
    duplicate: int
    invalid: int
    unknown: Annotated[int, Field(description="Those whose outcome did not come in time")]
    error: Annotated[str | None, Field(description="When it failed")]
