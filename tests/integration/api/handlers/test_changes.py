"""GET /changes: nothing is missed, nothing comes twice, and no client delays another."""

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest
from redis.asyncio import Redis

from services.api.handlers.changes import HEARTBEAT_EVERY, MOST_EACH, ChangeHandlers
from services.api.settings import ApiSettings
from services.api.web.broadcast import Follower
from services.api.web.problems import Problem
from services.api.web.streaming import HEARTBEAT
from shared.background import background
from shared.events.catalog import CHANGES
from shared.events.data import LeadChanged
from shared.events.envelope import Event, new_id
from shared.streams.change_feed import ChangeFeed
from shared.streams.publisher import add_events
from tests.support.api import OpenApi
from tests.support.api_process import running_process
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.connection import Connection
from tests.support.event_streams import EventSource, Message, messages
from tests.support.eventually import eventually

PATIENCE = 10
BLOCK = timedelta(seconds=1)


async def change(redis: Redis, number: int = 1) -> list[str]:
    """Add changes of leads to the stream; returns their ids there."""
    events: list[Event] = []
    for _ in range(number):
        lead_id = new_id()
        data = LeadChanged(lead_id=lead_id, lead_version=1, change="created")
        events.append(Event(source="tests", subject=str(lead_id), data=data))
    return await add_events(redis, events)


@contextlib.asynccontextmanager
async def following(
    api: httpx.AsyncClient, query: str = "", *, last_id: str = "", source: EventSource | None = None
) -> AsyncGenerator[AsyncGenerator[Message]]:
    """Open the stream, and yield the events in it; `source` goes on where it was."""
    if source is not None and source.last_id is not None:
        last_id = source.last_id
    async with (
        asyncio.timeout(PATIENCE),
        api.stream("GET", f"/changes{query}", headers={"Last-Event-ID": last_id}) as response,
        contextlib.aclosing(messages(response, source)) as events,
    ):
        yield events


async def take(events: AsyncGenerator[Message], number: int) -> list[Message]:
    return [await anext(events) for _ in range(number)]


def ids(events: Sequence[Message]) -> list[str | None]:
    return [event.id for event in events]


async def test_a_change_is_sent_when_it_is_committed(client: httpx.AsyncClient) -> None:
    async with following(client) as events:
        lead = (await client.post("/leads", json=lead_body())).json()
        change = await anext(events)
    assert change.event == "lead-changed"
    assert change.data == {"leadId": lead["id"], "leadVersion": 1, "change": "created"}


async def test_one_reader_serves_all_clients(api: httpx.AsyncClient, redis: Redis) -> None:
    await change(redis)
    # Other APIs may be running for other tests.
    connected = {one["id"] for one in await redis.client_list()}
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(following(api)) for _ in range(20)]
        expected = await change(redis, 3)
        for events in clients:
            assert ids(await take(events, 3)) == expected
        fresh = [one for one in await redis.client_list() if one["id"] not in connected]
        assert len([one for one in fresh if one["cmd"] == "xread"]) <= 1


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_client_goes_on_where_it_was(
    by_header: bool,  # noqa: FBT001 (a parameter of the table)
    api: httpx.AsyncClient,
    redis: Redis,
) -> None:
    added = await change(redis, 5)
    query = "?after=0" if by_header else f"?after={added[1]}"
    async with following(api, query, last_id=added[1] if by_header else "") as events:
        added += await change(redis, 2)
        assert ids(await take(events, 5)) == added[2:]


async def test_from_the_beginning_there_is_everything(api: httpx.AsyncClient, redis: Redis) -> None:
    added = await change(redis, 1_200)  # more than are fetched at a time
    adding = asyncio.create_task(change(redis, 200), name="more changes")
    async with following(api, "?after=0") as events:
        added += await adding
        assert ids(await take(events, len(added))) == added


async def test_a_gap_is_announced(api: httpx.AsyncClient, redis: Redis) -> None:
    added = await change(redis, 4)
    await redis.xtrim(CHANGES, maxlen=2, approximate=False)
    async with following(api, f"?after={added[0]}") as events:
        gap, *rest = await take(events, 3)
    assert (gap.event, gap.data) == ("gap", {"after": added[0]})
    assert ids(rest) == added[2:]
    # Whoever has seen the gap, or what is missing, is told of none.
    for whole in (gap.id, added[1], added[2], added[3], "0"):
        async with following(api, f"?after={whole}") as events:
            await change(redis)
            assert (await anext(events)).event == "lead-changed"


async def test_a_client_from_before_a_loss_of_the_stream_gets_a_gap(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    last = await change(redis)
    async with following(api, "?after=99999999999999-0") as events:
        gap = await anext(events)
        assert (gap.event, ids([gap])) == ("gap", last)
        added = await change(redis)
        assert ids(await take(events, 1)) == added


@pytest.mark.parametrize("number", [0, 3])
async def test_a_client_that_has_seen_no_event_loses_none(
    number: int, api: httpx.AsyncClient, redis: Redis
) -> None:
    await change(redis, number)
    source = EventSource()
    async with following(api, source=source) as events:
        await greeting(events, source)
    assert source.retry == 2_000
    added = await change(redis, 2)
    async with following(api, source=source) as events:
        assert ids(await take(events, 2)) == added
    # It has not seen the first of these, and is told so.
    await change(redis, 2)
    await redis.xtrim(CHANGES, maxlen=1, approximate=False)
    async with following(api, source=source) as events:
        assert [one.event for one in await take(events, 2)] == ["gap", "lead-changed"]


async def test_who_saw_an_empty_stream_is_told_when_its_first_entries_have_gone(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    source = EventSource()
    async with following(api, source=source) as events:
        await greeting(events, source)
    await change(redis, 2)
    await redis.xtrim(CHANGES, maxlen=1, approximate=False)
    async with following(api, source=source) as events:
        assert [one.event for one in await take(events, 2)] == ["gap", "lead-changed"]


async def greeting(events: AsyncGenerator[Message], source: EventSource) -> None:
    """Read until there is an id, while there is no event."""
    reading = asyncio.ensure_future(anext(events))
    await eventually(lambda: _has_id(source))
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading


async def _has_id(source: EventSource) -> bool:
    return source.last_id is not None


async def test_followers_of_a_stream_that_was_lost_come_again(redis: Redis) -> None:
    """Where the clock of the new server is behind, its entries have lower ids."""
    await redis.xadd(CHANGES, {"type": "lead-changed", "data": "{}"}, id="99999999999999-0")
    handlers = changes(redis, block=timedelta(milliseconds=20))
    async with background(handlers.run(), name="changes"):
        async with followed(handlers) as client:
            await redis.delete(CHANGES)
            added = await change(redis)
            async with asyncio.timeout(PATIENCE):
                await client.ended
        async with followed(handlers, "99999999999999-0") as client:
            assert client.first.startswith(b"retry: 2000\nid: %b\nevent: gap" % added[-1].encode())
            added = await change(redis)
            await eventually(lambda: has_come(client, added))


@pytest.mark.parametrize(
    ("query", "header", "name"),
    [
        ("after=x", None, "after"),
        ("after=", None, "after"),
        ("after=1-2-3", None, "after"),
        ("after=-1", None, "after"),
        ("after=18446744073709551616", None, "after"),
        ("after=0", "x", "Last-Event-ID"),
        ("since=0", None, "since"),
    ],
)
async def test_what_is_no_id_is_refused(
    query: str, header: str | None, name: str, api: httpx.AsyncClient
) -> None:
    headers = {} if header is None else {"Last-Event-ID": header}
    response = await api.get(f"/changes?{query}", headers=headers)
    assert (response.status_code, list(response.json()["errors"])) == (400, [name])


async def test_a_quiet_stream_gives_signs_of_life(redis: Redis) -> None:
    handlers = changes(redis, heartbeat_every=timedelta(milliseconds=20))
    async with background(handlers.run(), name="changes"), followed(handlers) as client:
        await eventually(lambda: has_sent(client, HEARTBEAT * 3))
        added = await change(redis)
        await eventually(lambda: has_come(client, added))


async def test_one_user_cannot_take_all_places(redis: Redis) -> None:
    handlers = changes(redis)
    async with background(handlers.run(), name="changes"), contextlib.AsyncExitStack() as open_:
        for _ in range(MOST_EACH):
            await open_.enter_async_context(followed(handlers, user="ada"))
        with pytest.raises(Problem, match="rate-limited") as refused:
            await open_.enter_async_context(followed(handlers, user="ada"))
        assert (refused.value.status, "Retry-After" in refused.value.headers) == (429, True)
        await open_.enter_async_context(followed(handlers, user="grace"))
        await open_.aclose()
        await open_.enter_async_context(followed(handlers, user="ada"))


async def test_clients_are_let_go_however_the_api_ends(redis: Redis) -> None:
    """Those too who have gone already, as nobody notices before the next message."""
    handlers = changes(redis)
    async with contextlib.AsyncExitStack() as open_:
        async with background(handlers.run(), name="changes"):
            clients = [
                await open_.enter_async_context(followed(handlers, after))
                for after in (None, "0", "1-1")
            ]
            clients[0].connection.abort()
        async with asyncio.timeout(PATIENCE):
            assert [await one.ended for one in clients] == [b""] * 3


@pytest.mark.parametrize("strange", [{"a": "b"}, {"type": "lead-changed"}, {"data": "{}"}])
async def test_an_entry_that_is_no_event_is_passed_over(
    strange: dict[str, str], api: httpx.AsyncClient, redis: Redis
) -> None:
    last = await change(redis)
    await redis.xadd(CHANGES, dict(strange.items()))
    async with following(api, f"?after={last[0]}") as events:
        added = await change(redis)
        await redis.xadd(CHANGES, dict(strange.items()))
        added += await change(redis)
        assert ids(await take(events, 2)) == added


def changes(
    redis: Redis, *, block: timedelta = BLOCK, heartbeat_every: timedelta = HEARTBEAT_EVERY
) -> ChangeHandlers:
    feed = ChangeFeed(redis, redis, block=block)
    return ChangeHandlers(feed, timeout=BLOCK, heartbeat_every=heartbeat_every)


@dataclass
class Client:
    """What a follower is sent: first by its answer, then on its connection."""

    first: bytes
    connection: Connection
    ended: asyncio.Future[bytes]


@contextlib.asynccontextmanager
async def followed(
    handlers: ChangeHandlers, after: str | None = None, *, user: str = "ada"
) -> AsyncGenerator[Client]:
    connection, follower = Connection(), Follower(until=math.inf)
    follower.connect(connection, {})
    sent = handlers.messages(after, follower, user=user)
    try:
        first = await anext(sent)
        ended = asyncio.ensure_future(anext(sent, b""))
        try:
            yield Client(first, connection, ended)
        finally:
            ended.cancel()
            await asyncio.wait([ended])
    finally:
        await sent.aclose()


async def has_sent(client: Client, text: bytes) -> bool:
    return text in client.connection.sent


async def has_come(client: Client, entries: Sequence[str]) -> bool:
    return re.findall(rb"id: (.*)", client.connection.sent) == [one.encode() for one in entries]


async def test_a_lost_connection_to_redis_loses_no_change(open_api: OpenApi, redis: Redis) -> None:
    async with open_api() as api, following(api) as events:
        await redis.client_kill_filter(_type="normal", skipme=True)
        added = await change(redis)
        assert ids(await take(events, 1)) == added


async def test_sigterm_ends_the_streams_at_once(
    api_settings: ApiSettings, auth: AuthServer, redis: Redis
) -> None:
    headers = {"Authorization": f"Bearer {auth.token()}"}
    async with (
        running_process(api_settings) as api,
        httpx.AsyncClient(base_url=api.url, headers=headers, timeout=PATIENCE) as client,
        following(client, "?after=0") as events,
    ):
        await change(redis)
        await anext(events)
        api.terminate()
        async with asyncio.timeout(2):
            assert await anext(events, None) is None
        async with asyncio.timeout(PATIENCE):
            assert await api.process.wait() == 0
