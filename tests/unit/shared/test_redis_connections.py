"""Which errors of the client mean that Redis is away, and which are defects of ours."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis.asyncio import Connection, SSLConnection

from shared.domain.errors import UnavailableError
from shared.redis_connections import (
    LeanSending,
    client_of,
    open_redis,
    translated_errors,
)
from shared.redis_errors import is_outage
from shared.settings import StreamsSettings

# More than the system takes on the way.
LARGE = b"x" * 20_000_000


class LostTransport(asyncio.WriteTransport):
    """A transport as the event loops leave it once the connection is reset."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error
        self._is_closed = False

    def write(self, data: object) -> None:  # noqa: ARG002 (it is the base class's)
        raise self._error

    def writelines(self, list_of_data: object) -> None:  # noqa: ARG002 (it is the base class's)
        raise self._error

    def is_closing(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True


class LostConnection(LeanSending, Connection):
    """A connection whose transport is lost, which it does not know."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        self._writer = asyncio.StreamWriter(LostTransport(error), protocol, None, loop)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("one", ("one", 6379)),
        ("one:7000,two:7001", ("one", 7000)),
        ("[::1]:7000,[::2]", ("::1", 7000)),
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_each_node_of_a_cluster_is_spoken_to_alike(
    scheme: str, hosts: str, first: tuple[str, int]
) -> None:
    second = timedelta(seconds=1)
    url = f"{scheme}+cluster://user:p%40ss@{hosts}/0?client_name=tests"
    client = client_of(url, connect=second, answer=second, most=1)
    given = client.connection_pool.connection_kwargs
    assert (given["host"], given.get("port", 6379)) == first
    assert (given["username"], given["password"], given["client_name"]) == ("user", "p@ss", "tests")
    assert (client.connection_pool.connection_class is SSLConnection) is (scheme == "rediss")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed"),
        TypeError("'NoneType' object is not callable"),
        AttributeError("'NoneType' object has no attribute '_add_writer'"),
    ],
)
async def test_a_write_to_a_connection_that_was_reset_is_an_outage(error: Exception) -> None:
    """As uvloop, Python 3.12 and Python 3.13 have it."""
    with pytest.raises(UnavailableError, match="Redis is unavailable"), translated_errors():
        await LostConnection(error).send_packed_command([b"PING"], check_health=False)


class OpenConnection(LeanSending, Connection):
    """A connection that is made already."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(socket_timeout=0.05)
        self._reader, self._writer = reader, writer


@pytest.mark.parametrize("command", [LARGE, [LARGE, b"PING"], [b"PING", *[LARGE] * 3]])
@pytest.mark.parametrize("gives_up", [False, True])
async def test_a_write_that_the_server_does_not_take_ends_in_time(
    command: bytes | list[bytes], *, gives_up: bool
) -> None:
    ended = asyncio.Event()

    async def take_little(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    async with await asyncio.start_server(take_little, "127.0.0.1", 0, limit=1) as server:
        host, port = server.sockets[0].getsockname()
        connection = OpenConnection(*await asyncio.open_connection(host, port))
        sending = asyncio.create_task(connection.send_packed_command(command))
        try:
            if gives_up:
                await asyncio.sleep(0)
                sending.cancel()
            with pytest.raises(asyncio.CancelledError if gives_up else redis.TimeoutError):
                await sending
            # Half a command may have been sent.
            assert not connection.is_connected
        finally:
            ended.set()


async def test_a_write_that_fails_is_the_library_s_error() -> None:
    for error in (ConnectionResetError("reset"), OSError(113, "away"), RuntimeError("closed")):
        connection = LostConnection(error)
        with pytest.raises(redis.ConnectionError, match=str(error.args[-1])):
            await connection.send_packed_command(b"PING", check_health=False)
        assert not connection.is_connected


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        redis.TimeoutError("slow"),
        redis.BusyLoadingError("loading"),
        redis.OutOfMemoryError("full"),
        redis.ReadOnlyError("a replica"),
        redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
        redis.ResponseError("MISCONF Errors writing to the AOF file"),
        redis.ResponseError("SOMETHING no one has ever seen"),
        redis.ResponseError("no such key"),
        redis.ResponseError("unknown command 'XADD', with args beginning with: 's'"),
        redis.ResponseError("this user has no permissions to run 'xadd'"),
        redis.ResponseError("NOGROUP No such key 's' or consumer group 'g'"),
        redis.ResponseError("Command # 1 (XADD s * a b) of pipeline caused error: ('MISCONF x',)"),
    ],
)
def test_what_is_not_shown_to_be_ours_is_an_outage(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        redis.DataError("Invalid input of type: 'UUID'"),
        redis.WatchError("Watched variable changed"),
        redis.ResponseError("WRONGTYPE Operation against a key"),
        redis.ResponseError("wrong number of arguments for 'xadd' command"),
        redis.ResponseError("Command # 1 (GET s) of pipeline caused error: ('WRONGTYPE Op',)"),
        KeyError("a defect of ours, not of the client"),
    ],
)
def test_a_defect_of_ours_is_none(error: Exception) -> None:
    assert not is_outage(error)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "Command # 1 (XADD s * ada@example.com) of pipeline caused error: READONLY replica",
            "READONLY replica",
        ),
        (
            "Command # 12 (SET a of pipeline caused error: b) of pipeline caused error: OOM full",
            "OOM full",
        ),
        ("LOADING Redis is loading the dataset in memory", "LOADING Redis is loading the dataset"),
    ],
)
def test_what_is_told_of_an_error_leaves_the_command_out(message: str, said: str) -> None:
    with pytest.raises(UnavailableError) as told, translated_errors():
        raise redis.ResponseError(message)
    assert str(told.value).startswith(f"Redis is unavailable: {said}")
    assert told.value.dependency == "redis"


@pytest.mark.parametrize(
    ("hosts", "places"),
    [
        ("one", [("one", 26379)]),
        ("one:26380,two", [("one", 26380), ("two", 26379)]),
        ("[::1],[::2]:1", [("::1", 26379), ("::2", 1)]),
    ],
)
async def test_each_sentinel_is_asked_where_it_is(
    hosts: str, places: list[tuple[str, int]]
) -> None:
    url = SecretStr(f"redis+sentinel://:p%40ss@{hosts}/group/2")
    async with open_redis(StreamsSettings(redis_url=url)) as client:
        pool: Any = client.connection_pool  # without types
        sentinels = [one.connection_pool for one in pool.sentinel_manager.sentinels]
    found = [one.connection_kwargs for one in sentinels]
    assert [(one["host"], one["port"]) for one in found] == places
    assert pool.service_name == "group"
    assert (pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == ("p@ss", 2)


COMMANDS: list[tuple[Any, ...]] = [
    ("XADD", "stream:leads:{1.0}", "*", "id", b"\x00\xff\r\n", "attempt", 1),
    ("CONFIG GET", "appendonly"),
    (b"XGROUP SETID", "café", "", 0.5),
    ("SET", "k", "x" * 20_000, "PX", 1_000_000),
]


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("command", COMMANDS)
async def test_commands_are_packed_as_the_client_itself_would(
    command: tuple[Any, ...], number: int
) -> None:
    async with open_redis(StreamsSettings(redis_url=SecretStr("redis://localhost"))) as client:
        pool: Any = client.connection_pool  # without types
        connection = pool.make_connection()
    commands = [command] * number
    assert b"".join(connection.pack_commands(commands)) == b"".join(
        Connection().pack_commands(commands)
    )


@pytest.mark.parametrize("value", [None, object(), timedelta(seconds=1)])
async def test_what_no_server_takes_is_a_defect(value: object) -> None:
    async with open_redis(StreamsSettings(redis_url=SecretStr("redis://localhost"))) as client:
        pool: Any = client.connection_pool  # without types
        connection = pool.make_connection()
    with pytest.raises(redis.DataError):
        connection.pack_command("SET", "k", value)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost", Connection),
        ("rediss://localhost", SSLConnection),
        ("redis+sentinel://localhost/group", Connection),
    ],
)
async def test_connections_of_every_kind_are_lean(url: str, kind: type[Connection]) -> None:
    async with open_redis(StreamsSettings(redis_url=SecretStr(url))) as client:
        pool: Any = client.connection_pool  # without types
        connection = pool.make_connection()
    assert isinstance(connection, kind)
    assert connection.pack_command("PING") == [b"*1\r\n$4\r\nPING\r\n"]
    assert isinstance(connection, LeanSending)
