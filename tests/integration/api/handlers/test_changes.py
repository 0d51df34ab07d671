"""GET /changes: nothing is missed, nothing comes twice, and no client delays another."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

import httpx
import pytest
from redis.asyncio import Redis

from services.api.handlers.changes import MOST_EACH, ChangeHandlers
from services.api.settings import ApiSettings
from services.api.web.problems import Problem
from shared.background import background
from shared.domain.errors import UnavailableError
from shared.events.catalog import CHANGES
from shared.events.data import LeadChanged
from shared.events.envelope import Event, new_id
from shared.streams.change_feed import BEGINNING, MOST_WAITING, ChangeFeed, Follower
from shared.streams.codec import Entry
from shared.streams.publisher import add_events
from tests.support.api import OpenApi
from tests.support.api_process import running_process
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
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
    feed = ChangeFeed(redis, redis, block=timedelta(milliseconds=20))
    async with background(feed.run(), name="changes"):
        await eventually(lambda: is_ready(feed))
        with feed.following() as follower:
            await redis.delete(CHANGES)
            added = await change(redis)
            assert await follower.read(within=timedelta(seconds=PATIENCE)) is None
        assert await feed.resume(follower.since) == (added[-1], False)
        await eventually(lambda: has_read(feed, added[-1]))
        with feed.following() as follower:
            added = await change(redis)
            entries = await follower.read(within=timedelta(seconds=PATIENCE))
            assert [entry.id for entry in entries or ()] == added


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
    feed = ChangeFeed(redis, redis, block=BLOCK)
    handlers = ChangeHandlers(feed, timeout=BLOCK, heartbeat_every=timedelta(milliseconds=20))
    async with background(feed.run(), name="changes"):
        await eventually(lambda: is_ready(feed))
        async with contextlib.aclosing(handlers.messages(None, user="ada")) as sent:
            assert (await anext(sent)).startswith(b"retry:")
            assert [await anext(sent) for _ in range(3)] == [b": heartbeat\n\n"] * 3


async def test_one_user_cannot_take_all_places(redis: Redis) -> None:
    feed = ChangeFeed(redis, redis, block=BLOCK)
    handlers = ChangeHandlers(feed, timeout=BLOCK)
    async with background(feed.run(), name="changes"), contextlib.AsyncExitStack() as open_:
        await eventually(lambda: is_ready(feed))

        async def follow(user: str) -> None:
            stream = handlers.messages(None, user=user)
            await open_.enter_async_context(contextlib.aclosing(stream))
            await anext(stream)

        for _ in range(MOST_EACH):
            await follow("ada")
        with pytest.raises(Problem, match="rate-limited") as refused:
            await follow("ada")
        assert (refused.value.status, "Retry-After" in refused.value.headers) == (429, True)
        await follow("grace")
        await open_.aclose()
        await follow("ada")


async def has_read(feed: ChangeFeed, entry: str) -> bool:
    with feed.following() as follower:
        return follower.since == entry


async def is_ready(feed: ChangeFeed) -> bool:
    with contextlib.suppress(UnavailableError), feed.following():
        return True
    return False


async def test_a_client_that_is_too_slow_is_let_go() -> None:
    follower = Follower(since=BEGINNING)
    follower.push([Entry(f"{number}-0", {}) for number in range(MOST_WAITING)])
    assert len(await follower.read(within=BLOCK) or ()) == MOST_WAITING
    for number in range(MOST_WAITING + 1):
        follower.push([Entry(f"{number}-1", {})])
    assert await follower.read(within=BLOCK) is None


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
