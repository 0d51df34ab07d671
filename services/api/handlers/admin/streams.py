"""`/admin/streams`, for operators: the state of the streams, their groups and their consumers."""

from datetime import timedelta
from typing import Annotated

from aiohttp import web
from pydantic import BeforeValidator, Field

from services.api.server.routing import Call
from services.api.web.endpoint import Access, Answer, Endpoint, Tag
from services.api.web.responses import Representation, json_response, list_body, with_example
from shared.events.catalog import STREAMS
from shared.streams.consuming.settlement import DEAD_LETTERS
from shared.streams.inspection import Inspector

# Long enough for a rate that means something.
SAMPLE = timedelta(seconds=1)


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else round(value.total_seconds(), 3)


Handled = Annotated[
    float | None,
    Field(
        description="Entries dealt with a second, just now: applied, parked, or put off to another "
        "attempt. Null: unknown"
    ),
]

EXAMPLE_CONSUMER = {"name": "syncer:host-1:7-4711", "idle": 0.0, "pending": 0}
EXAMPLE_GROUP = {
    "name": "syncer",
    "lastDelivered": "1795512600000-0",
    "undelivered": 0,
    "pending": 0,
    "oldestPending": None,
    "retries": 0,
    "handledPerSecond": 2.0,
    "consumers": [EXAMPLE_CONSUMER],
}


EXAMPLE_PARTITION = {
    "name": "stream:leads:{1.0}",
    "layout": 1,
    "number": 0,
    "owner": "syncer:host-1:7-4711",
    "epoch": 3,
    "position": "1795512600000-0",
    "lag": 0,
    "held": 0,
    "handledPerSecond": 2.0,
}


class Consumer(Representation):
    """One consumer of a group."""

    model_config = with_example(**EXAMPLE_CONSUMER)

    name: str
    idle: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds since it last asked for anything; of those who share partitions, "
            "how long they gave no sign of life while being watched",
        ),
        BeforeValidator(_seconds),
    ]
    pending: Annotated[int, Field(description="Entries that it holds")]


class ConsumerGroup(Representation):
    """One group of a stream."""

    model_config = with_example(**EXAMPLE_GROUP)

    name: str
    last_delivered: Annotated[str, Field(description="The last entry that a consumer was given")]
    undelivered: Annotated[int | None, Field(description="Null: many, and Redis does not know")]
    pending: Annotated[int, Field(description="Entries that are not acknowledged")]
    oldest_pending: Annotated[
        float | None,
        Field(description="Seconds since the oldest of them was added"),
        BeforeValidator(_seconds),
    ]
    retries: Annotated[
        int | None,
        Field(
            description="Events that wait for another attempt, or behind one that does. Null: the "
            "stream keeps them in PostgreSQL, which is away"
        ),
    ]
    handled_per_second: Handled
    consumers: list[Consumer]


class StreamPartition(Representation):
    """One partition of a stream that keeps an order; one consumer at a time reads it."""

    model_config = with_example(**EXAMPLE_PARTITION)

    name: Annotated[str, Field(description="Its stream in Redis")]
    layout: Annotated[
        int, Field(ge=1, description="Which division of the stream it is of: the last is in use")
    ]
    number: Annotated[int, Field(ge=0, description="Its number in that")]
    owner: Annotated[str | None, Field(description="The consumer that reads it; null: none")]
    epoch: Annotated[int | None, Field(description="How often it has changed its owner")]
    position: Annotated[str | None, Field(description="Everything up to this entry is done")]
    lag: Annotated[int | None, Field(description="Entries after the position; null: very many")]
    held: Annotated[
        int | None, Field(description="Entries before it that wait for another attempt")
    ]
    handled_per_second: Handled


class Stream(Representation):
    """One stream; ids are null and figures 0 when it is empty or not there.

    One that keeps an order is the sum of its partitions. Who owns them and what they hold is null
    while PostgreSQL is away.
    """

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
        partitions=[EXAMPLE_PARTITION],
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
    partitions: Annotated[
        list[StreamPartition],
        Field(description="Those in use or not done, where the stream has any"),
    ]


class StreamHandlers:
    """Looks at the streams."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector

    @Endpoint(
        "GET",
        "/admin/streams",
        id="listStreams",
        tag=Tag.ADMINISTRATION,
        summary="See what streams, groups and consumers are at",
        explanation="Takes a second, in which entries are counted.",
        access=Access.OPERATOR,
        answers=(Answer.json(200, list[Stream], "All streams"),),
        problems=("unavailable",),
    )
    async def list_streams(self, _call: Call) -> web.StreamResponse:
        """Answer with all streams: takes a second, in which entries are counted."""
        states = await self._inspector.sampled((*STREAMS, DEAD_LETTERS), over=SAMPLE)
        return json_response(list_body(map(Stream.of, states)))
