"""A broadcast writes once to each client and batch, in order, and leaves time for others."""

import asyncio
import contextlib
import itertools
import math
from collections.abc import Generator, Sequence
from datetime import timedelta

import pytest

from services.api.web.broadcast import (
    MOST_UNSENT,
    REMEMBERED,
    SLICE,
    Broadcast,
    Follower,
    Message,
)
from tests.support.connection import Connection

CHUNKED = {"Transfer-Encoding": "chunked"}
START = (10, 0)


def messages(*numbers: int) -> list[Message]:
    return [Message((number, 0), b"%d\n\n" % number) for number in numbers]


async def send(broadcast: Broadcast, batch: Sequence[Message]) -> None:
    await broadcast.send(batch, position=batch[-1].id)


def text(*numbers: int) -> bytes:
    return b"".join(one.text for one in messages(*numbers))


@contextlib.contextmanager
def joined(
    broadcast: Broadcast, number: int = 1, *, seen: int = START[0], until: float = math.inf
) -> Generator[Sequence[tuple[Follower, Connection]]]:
    with contextlib.ExitStack() as stack:
        clients: list[tuple[Follower, Connection]] = []
        for _ in range(number):
            follower, connection = Follower(until=until), Connection()
            follower.connect(connection, {})
            follower.seen = (seen, 0)
            stack.enter_context(broadcast.following(follower))
            assert broadcast.join(follower)
            clients.append((follower, connection))
        yield clients


@pytest.fixture
def broadcast() -> Broadcast:
    one = Broadcast(heartbeat_every=timedelta(seconds=15))
    one.begin(START)
    return one


async def test_a_batch_is_one_write_of_the_same_bytes_to_each_client(broadcast: Broadcast) -> None:
    with joined(broadcast, 3) as clients:
        await send(broadcast, messages(11, 12, 13))
        await send(broadcast, messages(14))
        assert [client.writes for _, client in clients] == [[text(11, 12, 13), text(14)]] * 3
        [first, *others] = [client.writes[0] for _, client in clients]
        assert all(one is first for one in others)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({}, b"11\n\n"), (CHUNKED, b"4\r\n11\n\n\r\n"), ({"Connection": "close"}, b"11\n\n")],
)
async def test_a_batch_is_framed_as_the_answer_has_it(
    headers: dict[str, str], expected: bytes, broadcast: Broadcast
) -> None:
    with joined(broadcast) as [(follower, connection)]:
        follower.connect(connection, headers)
        await send(broadcast, messages(11))
    assert connection.sent == expected


@pytest.mark.parametrize("number", [120, 500, 1_000])
async def test_others_get_their_turn_after_each_slice(number: int, broadcast: Broadcast) -> None:
    steps = [0]

    async def count() -> None:
        while True:
            steps.append(sum(len(client.writes) for _, client in clients))
            await asyncio.sleep(0)

    with joined(broadcast, number) as clients:
        counting = asyncio.create_task(count(), name="others")
        await send(broadcast, messages(11))
        counting.cancel()
    assert steps[-1] == number
    assert max(after - before for before, after in itertools.pairwise(steps)) <= 100


@pytest.mark.parametrize("seen", [10, 12, 15, 17])
async def test_who_joins_gets_what_it_has_missed_and_nothing_twice(
    seen: int, broadcast: Broadcast
) -> None:
    await send(broadcast, messages(11, 12, 13))
    # 17 is ahead: another process had it already.
    with joined(broadcast, seen=seen) as [(_, connection)]:
        await send(broadcast, messages(14, 15))
        await send(broadcast, messages(16, 17, 18))
        await send(broadcast, messages(19))
    assert connection.sent == text(*range(seen + 1, 20))


async def test_who_joins_while_a_batch_is_under_way_gets_it_once(broadcast: Broadcast) -> None:
    with joined(broadcast, SLICE + 1):
        sending = asyncio.create_task(send(broadcast, messages(11)), name="sending")
        await asyncio.sleep(0)
        with joined(broadcast) as [(_, connection)]:
            await sending
            await send(broadcast, messages(12))
    assert connection.writes == [text(11), text(12)]


@pytest.mark.parametrize("seen", [9, START[0], START[0] + 5])
async def test_who_has_missed_more_than_is_remembered_does_not_join(
    seen: int, broadcast: Broadcast
) -> None:
    end = START[0] + 6 + REMEMBERED
    await send(broadcast, messages(*range(START[0] + 1, end + 1)))
    follower = Follower(until=math.inf)
    follower.seen = (seen, 0)
    with broadcast.following(follower):
        assert not broadcast.join(follower)
        follower.seen = broadcast.complete_after
        assert follower.seen == (START[0] + 6, 0)
        assert broadcast.join(follower)


@pytest.mark.parametrize("unsent", [MOST_UNSENT + 1, 10 * MOST_UNSENT])
async def test_a_client_that_is_too_slow_is_let_go(unsent: int, broadcast: Broadcast) -> None:
    with joined(broadcast, 2) as [(slow, connection), (_, other)]:
        connection.unsent, other.unsent = unsent, MOST_UNSENT
        await send(broadcast, messages(11))
        assert (slow.has_ended, connection.is_aborted, connection.sent) == (True, True, b"")
        await send(broadcast, messages(12))
        assert (connection.sent, other.sent) == (b"", text(11, 12))


async def test_who_has_gone_or_was_let_go_is_written_to_no_more(broadcast: Broadcast) -> None:
    with joined(broadcast, 3) as [(gone, its), (let_go, another), (_, last)]:
        its.is_aborted = True
        let_go.end()
        await send(broadcast, messages(11))
        assert gone.has_ended
        assert (its.sent, another.sent, last.sent) == (b"", b"", text(11))


async def test_all_are_let_go_where_the_stream_begins_anew(broadcast: Broadcast) -> None:
    await send(broadcast, messages(11))
    with joined(broadcast, 2) as clients:
        broadcast.forget()
        assert all(follower.has_ended for follower, _ in clients)
    broadcast.begin((3, 0))
    with joined(broadcast, seen=3) as [(_, connection)]:
        await send(broadcast, messages(4))
    assert connection.sent == text(4)


async def test_nothing_is_remembered_while_nobody_follows(broadcast: Broadcast) -> None:
    with joined(broadcast):
        await send(broadcast, messages(11))
        await broadcast.occupied()
        assert broadcast.position == (11, 0)
    waiting = asyncio.create_task(broadcast.occupied(), name="waiting")
    await asyncio.sleep(0)
    assert broadcast.position is None
    follower = Follower(until=math.inf)
    with broadcast.following(follower):
        await waiting
        assert not broadcast.join(follower)
        broadcast.begin((20, 0))
        broadcast.begin((21, 0))
        assert broadcast.position == (20, 0)


async def test_who_comes_after_the_end_is_let_go(broadcast: Broadcast) -> None:
    broadcast.close()
    with joined(broadcast) as [(follower, _)]:
        assert follower.has_ended


async def test_a_client_is_let_go_after_its_time() -> None:
    broadcast = Broadcast(heartbeat_every=timedelta(milliseconds=1))
    broadcast.begin(START)
    with joined(broadcast, until=0.0) as [(old, _)], joined(broadcast) as [(other, _)]:
        running = asyncio.create_task(broadcast.run(), name="heartbeats")
        await old.ended()
        running.cancel()
        assert not other.has_ended
