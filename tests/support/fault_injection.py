"""Proxies that speak a server's protocol, and answer in its place with any error."""

import asyncio
import itertools
import struct

from tests.support.tcp_proxy import EndError, Proxy, run_both


class FaultProxy(Proxy):
    """A proxy that counts the faults that it has injected."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.injected = 0


HANDSHAKE = frozenset({b"HELLO", b"AUTH", b"CLIENT", b"SELECT"})


class RedisFaults(FaultProxy):
    """Answers commands with bytes of a test's: all of them, every third one, or the handshake."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._answer: bytes | None = None
        self._where = ""
        self._number = itertools.count()

    def inject(self, answer: bytes, *, where: str) -> None:
        """Answer so: `all` commands, `some` of a pipeline, those `at connect`."""
        self._answer, self._where = answer, where
        if where == "at connect":
            self.cut()

    def heal(self) -> None:
        self._answer = None

    def _answer_to(self, command: bytes) -> bytes | None:
        is_chosen = {
            "all": command not in HANDSHAKE | {b"MULTI"},
            "some": command not in HANDSHAKE | {b"MULTI"} and next(self._number) % 3 == 1,
            "at connect": command in HANDSHAKE,
        }
        if self._answer is None or not is_chosen[self._where]:
            return None
        self.injected += 1
        return self._answer

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        # Of each command that was sent, the answer that it is to get instead of the server's.
        expected: asyncio.Queue[bytes | None] = asyncio.Queue()
        up = self._up(reader, server_writer, expected)
        down = self._down(server_reader, writer, expected)
        await run_both(up, down)

    async def _up(
        self,
        reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
        expected: "asyncio.Queue[bytes | None]",
    ) -> None:
        while True:
            command, raw = await _read_command(reader)
            answer = self._answer_to(command)
            if answer is None:
                server_writer.write(raw)
            elif command == b"EXEC":  # a server that refuses it gives the transaction up
                server_writer.write(b"*1\r\n$7\r\nDISCARD\r\n")
                expected.put_nowait(_UNASKED)
            expected.put_nowait(answer)

    async def _down(
        self,
        server_reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        expected: "asyncio.Queue[bytes | None]",
    ) -> None:
        while True:
            answer = await expected.get()
            if answer is None:
                writer.write(await _read_reply(server_reader))
            elif answer == _UNASKED:
                await _read_reply(server_reader)
            else:
                writer.write(answer)
            await writer.drain()
            if answer and not answer.startswith(b"-"):
                raise EndError  # what is no reply leaves both sides lost


# The answer to a command that the client has not sent.
_UNASKED = b""


async def _read_command(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return a command's name, and all of it as it came."""
    raw = [await reader.readuntil(b"\n")]
    arguments: list[bytes] = []
    for _ in range(int(raw[0][1:])):
        head = await reader.readuntil(b"\n")
        body = await reader.readexactly(int(head[1:]) + 2)
        raw += (head, body)
        arguments.append(body[:-2])
    return arguments[0].upper(), b"".join(raw)


async def _read_reply(reader: asyncio.StreamReader) -> bytes:
    """Return one reply in RESP2 or RESP3 as it came, with the pushes before it."""
    head = await reader.readuntil(b"\n")
    kind, rest = head[:1], head[1:-2]
    if kind in b"$=!":
        size = int(rest)
        return head if size < 0 else head + await reader.readexactly(size + 2)
    if kind in b"*~>%":
        count = max(0, int(rest)) * (2 if kind == b"%" else 1)
        parts = [await _read_reply(reader) for _ in range(count)]
        whole = head + b"".join(parts)
        return whole + await _read_reply(reader) if kind == b">" else whole
    return head


SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102


class PostgresFaults(FaultProxy):
    """Answers with an SQLSTATE of a test's: the start of a session, or whatever is asked in it."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._sqlstate: str | None = None
        self._is_at_connect = False

    def inject(self, sqlstate: str, *, at_connect: bool) -> None:
        """Answer so; what is to come at connect ends the sessions that there are."""
        self._sqlstate, self._is_at_connect = sqlstate, at_connect
        if at_connect:
            self.cut()

    def heal(self) -> None:
        self._sqlstate = None

    def _error(self, severity: bytes) -> bytes:
        self.injected += 1
        fields = (b"S" + severity, b"V" + severity, b"C" + (self._sqlstate or "").encode(), b"Mno")
        return _message(b"E", b"\0".join(fields) + b"\0\0")

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        await self._start(reader, writer, server_writer)
        # The state of the transaction, as the server said last: none before the session is there.
        state = bytearray()
        up = self._up(reader, writer, server_writer, state)
        down = self._down(server_reader, writer, state)
        await run_both(up, down)

    async def _up(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_writer: asyncio.StreamWriter,
        state: bytearray,
    ) -> None:
        while True:
            kind, message = await _read_message(reader)
            if self._sqlstate is None or self._is_at_connect or not state:
                server_writer.write(message)
                continue
            while kind not in b"QSX":
                kind, _ = await _read_message(reader)
            if kind == b"X":
                raise EndError
            after = b"I" if state == b"I" else b"E"
            writer.write(self._error(b"ERROR") + _message(b"Z", after))

    async def _down(
        self, server_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: bytearray
    ) -> None:
        while True:
            kind, message = await _read_message(server_reader)
            if kind == b"Z":
                state[:] = message[-1:]
            writer.write(message)
            await writer.drain()

    async def _start(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            size = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!i", size)[0] - 4)
            code = struct.unpack("!i", body[:4])[0]
            if code == SSL_REQUEST:
                writer.write(b"N")
                continue
            if code != CANCEL_REQUEST and self._sqlstate is not None and self._is_at_connect:
                writer.write(self._error(b"FATAL"))
                await writer.drain()
                raise EndError
            server_writer.write(size + body)
            return


async def _read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return a message's type, and all of it as it came."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
