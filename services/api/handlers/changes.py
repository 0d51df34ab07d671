"""`/changes`: leads' changes as they happen, as Server-Sent Events."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from typing import Annotated

import orjson
from aiohttp import web
from pydantic import Field

from services.api.server.routing import Call
from services.api.web.endpoint import Answer, Endpoint, Parameter, Tag
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import Query
from services.api.web.streaming import BUFFERING, EVENT_STREAM, HEARTBEAT, event_stream, message
from shared.streams.change_feed import ChangeFeed, Follower, parse_entry_id
from shared.streams.codec import Entry, entry_id

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
        heartbeat_every: timedelta = HEARTBEAT_EVERY,
    ) -> None:
        self._feed = feed
        self._heartbeat_every = heartbeat_every
        self._seconds = timeout.total_seconds()
        self._clients: Counter[str] = Counter()

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
        async with asyncio.timeout(self._seconds):
            return await event_stream(self.messages(after, user=call.user.id))

    async def messages(self, after: str | None, *, user: str) -> AsyncGenerator[bytes]:
        """Yield the stream of a client of a user that has seen `after`."""
        with self._admission(user), self._feed.following() as follower:
            seen, is_complete = follower.since, True
            if after is not None:
                seen, is_complete = await self._feed.resume(after)
            # Sent at once, with a place to go on from for clients that see no event until then.
            yield RETRY + (b"id: %b\n\n" % seen.encode() if is_complete else _gap(after, seen))
            if after is not None:
                async with contextlib.aclosing(self._feed.history(after=seen)) as entries:
                    async for entry in entries:
                        seen = entry.id
                        yield _message(entry)
            async with contextlib.aclosing(self._live(follower, seen)) as messages:
                async for one in messages:
                    yield one

    async def _live(self, follower: Follower, seen: str) -> AsyncGenerator[bytes]:
        """Yield new entries, without those that the history has brought already."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST.total_seconds()
        while loop.time() < end:
            entries = await follower.read(within=self._heartbeat_every)
            if entries is None:
                return
            new = [one for one in entries if entry_id(one.id) > entry_id(seen)]
            yield b"".join(map(_message, new)) or HEARTBEAT

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
    header = call.request.headers.get(LAST_EVENT_ID.name)
    # Some clients send an empty header before they have seen any event.
    given = header or query.after
    if given is None:
        return None
    entry_id = parse_entry_id(given)
    if entry_id is None:
        name = LAST_EVENT_ID.name if header else "after"
        raise validation_problem({name: "Is not the id of an event, such as 1700000000000-0"})
    return entry_id


def _gap(after: str | None, seen: str) -> bytes:
    """Return the message that events are missing before a place."""
    return message("gap", orjson.dumps({"after": after}), entry_id=seen)


def _message(entry: Entry) -> bytes:
    fields = entry.fields
    return message(fields[b"type"].decode(), fields[b"data"], entry_id=entry.id)
