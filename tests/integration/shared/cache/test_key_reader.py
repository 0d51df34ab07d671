"""Keys are read together, and each who waits gets the values of its own, or an error in time."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta

import hiredis
import pytest
from redis.asyncio import Redis

from shared.cache.key_reader import MOST, KeyReader, Values, open_reader
from shared.domain.errors import UnavailableError

LONG, SHORT = timedelta(seconds=5), timedelta(milliseconds=100)
OK = b"+OK\r\n"
GREETING = b"%1\r\n+proto\r\n:3\r\n"
NEWS = b">2\r\n+invalidate\r\n+all\r\n"
LOADING = b"-LOADING the dataset is in memory soon\r\n"
SILENCE = b""

Answer = Callable[[Sequence[bytes]], bytes]


def echo(keys: Sequence[bytes]) -> bytes:
    """Return a reply in which each key is its own value."""
    values = b"".join(b"$%d\r\n%b\r\n" % (len(key), key) for key in keys)
    return b"*%d\r\n%b" % (len(keys), values)


class ScriptedServer:
    """Greets as Redis does, and answers reads one after the other as the test says, then `echo`.

    Where the answer is None it closes the connection. On the first connections it is `silent`.
    """

    def __init__(self, *script: Answer | bytes | None, silent: int = 0) -> None:
        self.url = ""
        self.reads: list[int] = []
        self.asked = asyncio.Event()
        self.connections = 0
        self._script = list(script)
        self._silent = silent

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator["ScriptedServer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        commands = hiredis.Reader()
        with contextlib.closing(writer):
            while data := await reader.read(65_536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    is_silent = self.connections <= self._silent
                    answer = SILENCE if is_silent else self._answer(*command)
                    if answer is None:
                        return
                    # Byte by byte, as a network may.
                    for place in range(len(answer)):
                        writer.write(answer[place : place + 1])
                        await asyncio.sleep(0)

    def _answer(self, name: bytes, *arguments: bytes) -> bytes | None:
        if name != b"MGET":
            return GREETING if name == b"HELLO" else OK
        self.reads.append(len(arguments))
        self.asked.set()
        answer = self._script.pop(0) if self._script else echo
        return answer(arguments) if callable(answer) else answer


@contextlib.asynccontextmanager
async def reading(
    *script: Answer | bytes | None, within: timedelta = LONG, silent: int = 0
) -> AsyncGenerator[tuple[KeyReader, ScriptedServer]]:
    async with (
        ScriptedServer(*script, silent=silent).running() as server,
        open_reader(server.url, within=within) as reader,
    ):
        yield reader, server


async def test_each_gets_the_values_of_its_own_keys(redis: Redis, redis_url: str) -> None:
    await redis.mset({f"key:{number}": number for number in range(0, 2 * MOST, 2)})
    async with open_reader(redis_url, within=LONG) as reader:
        pairs = [(b"key:%d" % number, b"key:%d" % (number + 1)) for number in range(MOST)]
        found = await asyncio.gather(*map(reader.submit, pairs))
    for number, values in enumerate(found):
        expected = [b"%d" % one if one % 2 == 0 else None for one in (number, number + 1)]
        assert list(values) == expected


async def test_what_waits_is_read_together_and_no_more_than_that() -> None:
    async with reading() as (reader, server):
        many = [reader.submit((b"%d" % number,)) for number in range(MOST + 1)]
        await server.asked.wait()
        more = reader.submit((b"more",))
        await asyncio.gather(*many, more)
        assert server.reads == [MOST, 2]
        assert server.connections == 1


async def test_a_connection_that_ends_under_way_is_replaced_once() -> None:
    async with reading(None, None, None) as (reader, server):
        with pytest.raises(UnavailableError, match="Connection lost"):
            await reader.submit((b"key",))
        assert server.connections == 2
        # Lost once more, and then answered.
        assert list(await reader.submit((b"key",))) == [b"key"]


async def test_a_late_answer_is_none_to_the_next_read() -> None:
    async with reading(SILENCE, within=SHORT) as (reader, server):
        with pytest.raises(UnavailableError, match="too long"):
            await reader.submit((b"first",))
        assert list(await reader.submit((b"second",))) == [b"second"]
        assert server.connections == 2


async def test_those_that_wait_behind_a_failure_are_asked_for_anew() -> None:
    async with reading(SILENCE, within=SHORT) as (reader, _):
        first = reader.submit((b"first",))
        await asyncio.sleep(0)
        second = reader.submit((b"second",))
        with pytest.raises(UnavailableError):
            await first
        assert list(await second) == [b"second"]


async def test_an_error_of_the_server_is_that_of_its_read() -> None:
    async with reading(LOADING) as (reader, server):
        with pytest.raises(UnavailableError, match="LOADING"):
            await reader.submit((b"key",))
        assert list(await reader.submit((b"key",))) == [b"key"]
        assert server.connections == 1


async def test_nonsense_ends_the_connection() -> None:
    async with reading(b"?nonsense\r\n") as (reader, server):
        with pytest.raises(UnavailableError):
            await reader.submit((b"key",))
        assert list(await reader.submit((b"key",))) == [b"key"]
        assert server.connections == 2


async def test_news_that_nobody_asked_for_are_no_answer() -> None:
    async with reading(lambda keys: NEWS + echo(keys)) as (reader, _):
        assert list(await reader.submit((b"key",))) == [b"key"]


async def test_who_has_gone_takes_no_values_from_others() -> None:
    async with reading() as (reader, _):
        gone, stayed = reader.submit((b"gone",)), reader.submit((b"stayed",))
        gone.cancel()
        assert list(await stayed) == [b"stayed"]


async def test_who_waits_at_the_end_is_cancelled() -> None:
    async with reading(SILENCE) as (reader, server):
        under_way = reader.submit((b"key",))
        await server.asked.wait()
        waiting = reader.submit((b"key",))
    assert under_way.cancelled()
    assert waiting.cancelled()


async def test_a_server_that_does_not_greet_is_given_up_in_time() -> None:
    async with reading(within=SHORT, silent=1) as (reader, _):
        with pytest.raises(UnavailableError):
            await reader.submit((b"key",))
        async with asyncio.timeout(LONG.total_seconds()):
            values: Values = ()
            while not values:
                with contextlib.suppress(UnavailableError):
                    values = await reader.submit((b"key",))
        assert list(values) == [b"key"]
