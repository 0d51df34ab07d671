"""`/changes`: leads' changes as they happen, as Server-Sent Events."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import timedelta
from typing import Annotated

import orjson
import structlog
from aiohttp import web
from pydantic import Field

from services.api.server.routing import Call
from services.api.web.broadcast import Broadcast, Follower, Message
from services.api.web.endpoint import Answer, Endpoint, Parameter, Tag
from services.api.web.headers import only_value
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import Query
from services.api.web.streaming import BUFFERING, EVENT_STREAM, event_stream, message
from shared.background import background, repeat
from shared.observability.outages import Outages
from shared.streams.change_feed import ChangeFeed
from shared.streams.codec import Entry, EntryId, entry_id, parse_entry_id

log = structlog.get_logger(__name__)

MOST_AT_A_TIME = 1_000
# Of one user: more are a program that forgets to close them, and would take the others' places.
MOST_EACH = 20
HEARTBEAT_EVERY = timedelta(seconds=15)
# A stream outlives the check of its token by so much at most; then the client reconnects.
LONGEST = timedelta(minutes=15)
# How long clients wait before they reconnect.
RETRY = b"retry: 2000\n"


LAST_EVENT_ID = Parameter(
    name="Last-Event-ID",
    place="header",
    description="The `id` of the last event seen",
    example="1732440612345-0",
)


class ChangesQuery(Query):
    """Where to go on."""

    after: Annotated[
        str | None,
        Field(
            description="The `id` of the last event seen, `0` for all that are there, nothing for "
            "those to come. The header `Last-Event-ID` is the same, and stronger"
        ),
    ] = None


class ChangeHandlers:
    """Sends changes to any number of clients."""

    def __init__(
        self,
        feed: ChangeFeed,
        *,
        timeout: timedelta,
        outages: Outages | None = None,
        heartbeat_every: timedelta = HEARTBEAT_EVERY,
    ) -> None:
        self._feed = feed
        self._outages = outages or Outages()
        self._broadcast = Broadcast(heartbeat_every=heartbeat_every)
        self._seconds = timeout.total_seconds()
        self._clients: Counter[str] = Counter()

    async def run(self) -> None:
        """Pass on what happens while somebody follows, forever."""
        try:
            async with background(self._broadcast.run(), name="heartbeats"):
                await repeat(self._pass_on, outages=self._outages, activity="changes")
        finally:
            # However the API ends: who waits for nobody any more would wait for ever.
            self.close()

    def close(self) -> None:
        """Let every client go."""
        self._broadcast.close()

    @Endpoint(
        "GET",
        "/changes",
        id="followChanges",
        tag=Tag.LEADS,
        summary="Follow the changes of all leads",
        explanation="Server-Sent Events. `lead-changed` says which lead is in which version now "
        "and why, and no more: read the lead. `gap` says that events have been missed, since they "
        "are no longer kept: read the list. The stream ends now and then, and at once for clients "
        "that are too slow: come again with the `id` of the last event. It begins with an `id` "
        "and no event, so that clients which have seen none yet lose none either; an `id` that "
        "the stream does not know, since it was lost, leads to a `gap`. One user can follow it "
        f"{MOST_EACH} times at once.",
        parameters=(LAST_EVENT_ID,),
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
    async def follow(self, call: Call) -> web.StreamResponse:
        """Answer with a stream of events."""
        after = _last_seen(call)
        end = asyncio.get_running_loop().time() + LONGEST.total_seconds()
        follower = Follower(until=end)
        messages = self.messages(after, follower, user=call.user.id)
        async with asyncio.timeout(self._seconds):
            return await event_stream(messages, on_open=follower.connect)

    async def messages(
        self, after: str | None, follower: Follower, *, user: str
    ) -> AsyncGenerator[bytes]:
        """Yield what a client of a user that has seen `after` gets until it has caught up.

        From then on it is written to as a follower, until that ends.
        """
        with self._admission(user), self._broadcast.following(follower):
            seen, is_complete = _text(await self._begin()), True
            if after is not None:
                seen, is_complete = await self._feed.resume(after)
            # Sent at once, with a place to go on from for clients that see no event until then.
            yield RETRY + (b"id: %b\n\n" % seen.encode() if is_complete else _gap(after, seen))
            follower.seen = entry_id(seen)
            while not self._broadcast.join(follower):
                # What is not there up to here has been deleted.
                remembered = self._broadcast.complete_after
                entries = await self._feed.page(after=_text(follower.seen))
                if not entries:
                    follower.seen = remembered
                    continue
                yield b"".join([one.text for one in _messages(entries)])
                follower.seen = entry_id(entries[-1].id)
            await follower.ended()

    async def _pass_on(self) -> None:
        await self._broadcast.occupied()
        position = await self._begin()
        entries = await self._feed.next(after=_text(position))
        if entries:
            last = entry_id(entries[-1].id)
            await self._broadcast.send(_messages(entries), position=last)
        elif position > entry_id(end := await self._feed.last()):
            # The stream was lost, and ids of the new one may be below those of the old one.
            log.warning("changes.lost", position=_text(position), last=end)
            self._broadcast.forget()

    async def _begin(self) -> EntryId:
        """Return the last entry that was read, or that there is while none are."""
        while (position := self._broadcast.position) is None:
            self._broadcast.begin(entry_id(await self._feed.last()))
        return position

    @contextlib.contextmanager
    def _admission(self, user: str) -> Generator[None]:
        detail = None
        if self._clients[user] >= MOST_EACH:
            detail = f"One user can follow the changes {MOST_EACH} times at once"
        elif self._clients.total() >= MOST_AT_A_TIME:
            detail = f"Only {MOST_AT_A_TIME} clients can follow the changes"
        if detail is not None:
            raise Problem("rate-limited", detail, headers={"Retry-After": "10"})
        self._clients[user] += 1
        try:
            yield
        finally:
            self._clients[user] -= 1
            self._clients = +self._clients  # forgets who follows no more


def _last_seen(call: Call) -> str | None:
    query = call.parse_query(ChangesQuery)
    header = only_value(call.request.headers, LAST_EVENT_ID.name)
    # Some clients send an empty header before they have seen any event.
    given = header or query.after
    if given is None:
        return None
    entry_id = parse_entry_id(given)
    if entry_id is None:
        name = LAST_EVENT_ID.name if header else "after"
        raise validation_problem({name: "Is not the id of an event, such as 1700000000000-0"})
    return entry_id


def _text(position: EntryId) -> str:
    return "{}-{}".format(*position)


def _gap(after: str | None, seen: str) -> bytes:
    """Return the message that events are missing before a place."""
    return message("gap", orjson.dumps({"after": after}), entry_id=seen)


def _messages(entries: Sequence[Entry]) -> Sequence[Message]:
    """Return what is sent of entries; what is no event is passed over."""
    return [
        Message(entry_id(one.id), message(kind.decode(), data, entry_id=one.id))
        for one in entries
        if (kind := one.fields.get(b"type")) is not None
        and (data := one.fields.get(b"data")) is not None
    ]
