"""Reads keys of the cache: all that wait in one MGET, whose reply wakes them by itself."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from datetime import timedelta
from typing import Any, TypeAlias, cast

import hiredis
import redis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from shared.background import background
from shared.domain.errors import UnavailableError
from shared.observability.metrics import DB_SECONDS, counter
from shared.redis_connections import connection_options
from shared.redis_errors import is_outage

Request: TypeAlias = tuple[bytes, ...]
Values: TypeAlias = Sequence[bytes | None]
Waiting: TypeAlias = "list[tuple[Request, asyncio.Future[Values]]]"

MOST = 500

READS = counter(
    "leads_cache_reads_total",
    "Keys looked up in the cache. `unavailable` is while it is away, when PostgreSQL is asked.",
    ["result"],
    start=[["hit"], ["miss"], ["unavailable"]],
)
_HITS, _MISSES = map(READS.labels, ("hit", "miss"))
_READ_SECONDS = DB_SECONDS.labels("redis", "MGET", "")
_INCOMPLETE = object()


@contextlib.asynccontextmanager
async def open_reader(url: str, *, within: timedelta) -> AsyncGenerator["KeyReader"]:
    """Run a reader for the length of the block. It connects when it is first asked."""
    reader = KeyReader(url, timeout=within)
    async with background(reader.run(), name="cache reads"):
        yield reader


class KeyReader(asyncio.Protocol):
    """Reads many keys in one round trip: what nearly every request to the API waits for.

    Keys gather while a read is under way, and leave together as the next one. The client's library
    opens the connection; from then on what arrives is parsed here, and no task has to wake before
    those that wait do. A read that fails is tried once more, over a new connection: the server may
    have closed an idle one. All that takes `timeout` at the most.
    """

    def __init__(self, url: str, *, timeout: timedelta) -> None:
        self._seconds = timeout.total_seconds()
        pool = ConnectionPool.from_url(url, **connection_options(connect=timeout, answer=None))
        make_connection: Callable[[], AbstractConnection] = pool.make_connection
        self._connection = make_connection()
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        # What the library reads by. It hears of the connection's end, or closing would wait for it.
        self._library: asyncio.Protocol | None = None
        self._replies = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._waiting: Waiting = []
        self._sent: Waiting = []
        self._sent_at = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        self._has_retried = False

    def submit(self, keys: Request) -> "asyncio.Future[Values]":
        """Return what to await for the keys' values; it raises `UnavailableError`."""
        future: asyncio.Future[Values] = self._loop.create_future()
        self._waiting.append((keys, future))
        if len(self._waiting) == 1 and not self._sent:
            self._loop.call_soon(self._begin)
        return future

    async def run(self) -> None:
        """Connect whenever there is no connection, forever. Who waits at the end is cancelled."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if self._transport is None:
                    await self._connect()
        finally:
            for _, future in [*self._end_exchange(), *self._waiting]:
                future.cancel()
            self._waiting = []
            self._hand_back()
            await self._connection.disconnect()

    def data_received(self, data: bytes) -> None:
        """Wake those whose values have come."""
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not _INCOMPLETE:
                if isinstance(reply, hiredis.ReplyError):
                    self._fail(str(reply))
                elif not isinstance(reply, hiredis.PushNotification):  # which nobody asked for
                    self._wake(reply)
        except hiredis.ProtocolError as error:
            self._abort()
            self._fail(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """Ask again over a new connection, once."""
        if self._library is not None:
            self._library.connection_lost(exc)
        self._transport = self._library = None
        if not self._sent:
            return
        if self._has_retried:
            self._fail("Connection lost")
        else:
            self._has_retried = True
            self._wanted.set()

    async def _connect(self) -> None:
        connect: Callable[[], Awaitable[None]] = self._connection.connect  # it has no types
        try:
            with translated_errors():
                await self._connection.disconnect(nowait=True)
                async with asyncio.timeout(self._seconds):
                    await connect()
        except UnavailableError as error:
            self._fail(str(error))
            return
        writer: asyncio.StreamWriter = cast("Any", self._connection)._writer  # noqa: SLF001 (no other way to ask)
        self._transport = cast("asyncio.Transport", writer.transport)
        self._library = cast("asyncio.Protocol", self._transport.get_protocol())
        self._replies = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._transport.set_protocol(self)
        if self._sent:
            self._transport.write(_pack(self._sent))

    def _begin(self) -> None:
        if self._sent or not self._waiting:
            return
        self._sent, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        self._sent_at = time.perf_counter()
        self._deadline = self._loop.call_later(self._seconds, self._time_out)
        self._has_retried = False
        if self._transport is None or self._transport.is_closing():
            self._wanted.set()
        else:
            self._transport.write(_pack(self._sent))

    def _wake(self, values: list[bytes | None]) -> None:
        sent = self._end_exchange()
        _READ_SECONDS.observe(time.perf_counter() - self._sent_at)
        if misses := values.count(None):
            _MISSES.inc(misses)
        _HITS.inc(len(values) - misses)
        place = 0
        for keys, future in sent:
            end = place + len(keys)
            if not future.done():  # else its caller has gone
                future.set_result(values[place:end])
            place = end
        self._begin()

    def _time_out(self) -> None:
        # What is on its way must not be taken for the answer to the next read.
        self._abort()
        self._fail("It took too long")

    def _fail(self, reason: str) -> None:
        for _, future in self._end_exchange():
            if not future.done():
                future.set_exception(UnavailableError(f"The cache is unavailable: {reason}"))
        self._begin()

    def _end_exchange(self) -> Waiting:
        if self._deadline is not None:
            self._deadline.cancel()
        sent, self._sent = self._sent, []
        return sent

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._hand_back()

    def _hand_back(self) -> None:
        """Have the library hear of what else comes, and of the connection's end."""
        if self._transport is not None and self._library is not None:
            self._transport.set_protocol(self._library)
        self._transport = self._library = None


def _pack(sent: Waiting) -> bytes:
    keys = [key for one, _ in sent for key in one]
    packed = [b"*%d\r\n$4\r\nMGET\r\n" % (len(keys) + 1)]
    packed += [b"$%d\r\n%b\r\n" % (len(key), key) for key in keys]
    return b"".join(packed)


@contextlib.contextmanager
def translated_errors() -> Generator[None]:
    """Raise `UnavailableError` for every error of Redis: no read fails for what is in the cache."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, redis.RedisError) and not is_outage(error):
            raise
        reason = str(error) or type(error).__name__
        raise UnavailableError(f"The cache is unavailable: {reason}") from error
