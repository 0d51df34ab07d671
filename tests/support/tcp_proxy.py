"""A network that misbehaves on demand: stands between a client and a server of this machine."""

import asyncio
import contextlib
import re
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 65_536
END = timedelta(seconds=5)
# Closing a socket that lingers for no time sends RST, as a crashed host's network does.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Loses = Callable[[], bool]


class Proxy(ABC):
    """Stands between clients and a port; entered, it listens on `port`."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        self.heal()
        tasks = [task for task in self._connections.values() if task is not None]
        # Which ends them: the streams of Python 3.11 complain of tasks that were cancelled.
        self.cut()
        if tasks:
            await asyncio.wait(tasks, timeout=END.total_seconds())

    @abstractmethod
    def heal(self) -> None:
        """Pass everything on."""

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        for writer in self._connections:
            _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections[writer] = asyncio.current_task()
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, EndError):
                upstream = await self._connect()
                try:
                    await self._join(reader, writer, *upstream)
                finally:
                    upstream[1].transport.abort()
        finally:
            del self._connections[writer]
            _abort(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, self._target)

    @abstractmethod
    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        """Serve one connection until one side ends it."""


class EndError(Exception):
    """The connection is to be closed."""


async def run_both(*directions: Coroutine[Any, Any, None]) -> None:
    """Pass on in both directions until one ends; then the other ends too."""
    pumps = [asyncio.create_task(one, name="pump") for one in directions]
    try:
        done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
    for pump in done:
        pump.result()


class TcpProxy(Proxy):
    """Passes bytes on.

    `latency` delays each piece of data, in both directions. `lost_answers` counts the
    requests that the server carried out without the client hearing of it.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.latency = timedelta(0)
        self.lost_answers = 0
        self._is_refusing = False
        self._passing = asyncio.Event()
        self._passing.set()
        self._losing: tuple[re.Pattern[bytes], Loses] | None = None

    def heal(self) -> None:
        """Behave. What a black hole held back goes on its way."""
        self.latency = timedelta(0)
        self._is_refusing = False
        self._losing = None
        self._passing.set()

    def reset(self) -> None:
        """Reset every connection, and new ones at once, until healed."""
        self._is_refusing = True
        self.cut()

    def swallow(self) -> None:
        """Be a black hole until healed: connections stay open and nothing comes through."""
        self._passing.clear()

    def lose_answers(self, request: str, *, when: Loses) -> None:
        """Pass requests that match on, and when `when` says so reset instead of answering."""
        self._losing = (re.compile(request.encode(), re.DOTALL), when)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._is_refusing:
            raise EndError
        return await super()._connect()

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        link = _Link()
        await run_both(
            self._pump(reader, server_writer, link, is_request=True),
            self._pump(server_reader, writer, link, is_request=False),
        )

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: "_Link",
        *,
        is_request: bool,
    ) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._passing.wait()
                if self.latency:
                    await asyncio.sleep(self.latency.total_seconds())
                if is_request:
                    link.is_losing |= self._is_to_lose(data)
                elif link.is_losing:
                    self.lost_answers += 1
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return

    def _is_to_lose(self, data: bytes) -> bool:
        if self._losing is None:
            return False
        request, when = self._losing
        return request.search(data) is not None and when()


class _Link:
    """What the two directions of a connection know of each other."""

    def __init__(self) -> None:
        self.is_losing = False


def _abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
