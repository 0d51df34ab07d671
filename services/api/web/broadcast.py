"""The same messages for any number of clients, written to their connections from one place.

A batch is encoded once, and no task wakes for it but one. Clients are written to in slices, between
which the event loop does other work, and each batch is followed by a rest in which the next one
gathers: however many clients there are, most of the loop's time is left for requests.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import NamedTuple

from aiohttp import hdrs

from services.api.web.streaming import HEARTBEAT
from shared.observability.metrics import gauge
from shared.streams.codec import EntryId

# Clients that are written to in one turn of the event loop.
SLICE = 50
# What a batch rests for each client, ten times what it takes to write to one.
REST_EACH = timedelta(microseconds=100)
# Bytes that may wait for a client once the buffers of both systems are full.
MOST_UNSENT = 256 << 10
# Messages that are kept, for clients who come while these are sent.
REMEMBERED = 1_000

_FOLLOWERS = gauge("leads_followers", "Clients that follow the changes of leads.")


class Message(NamedTuple):
    """An event as it is sent, and the id of its entry."""

    id: EntryId
    text: bytes


class Follower:
    """One client; it has seen what is up to the entry `seen`."""

    def __init__(self, *, until: float) -> None:
        self.until = until
        self.seen: EntryId = (0, 0)
        self.is_live = False
        self._ended = asyncio.Event()
        self._transport: asyncio.WriteTransport | None = None
        self._is_chunked = False

    def connect(self, transport: asyncio.WriteTransport, headers: Mapping[str, str]) -> None:
        """Take the connection on which an answer with these headers has begun."""
        self._transport = transport
        self._is_chunked = hdrs.TRANSFER_ENCODING in headers

    def write(self, frames: "Frames") -> None:
        """Send messages that it has not seen; lets the client go where it is too slow."""
        transport = self._transport
        if transport is None or not self.is_live:
            return
        if transport.is_closing() or transport.get_write_buffer_size() > MOST_UNSENT:
            transport.abort()
            self.end()
        elif frames.first > self.seen:
            transport.write(frames.chunk if self._is_chunked else frames.text)
        elif new := [one for one in frames.messages if one.id > self.seen]:
            self.write(Frames(new))

    async def ended(self) -> None:
        """Wait until it is let go."""
        await self._ended.wait()

    @property
    def has_ended(self) -> bool:
        """Whether it was let go."""
        return self._ended.is_set()

    def end(self) -> None:
        """Let it go."""
        self.is_live = False
        self._ended.set()


class Frames:
    """Messages in the two forms in which they stand on connections."""

    __slots__ = ("chunk", "first", "messages", "text")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.first = messages[0].id
        self.text = b"".join([one.text for one in messages])
        # As HTTP/1.1 has it, whose length is not known beforehand (RFC 9112, section 7.1).
        self.chunk = b"%x\r\n%b\r\n" % (len(self.text), self.text)


# After whatever a client has seen.
_HEARTBEAT = Frames([Message((1 << 64, 0), HEARTBEAT)])


class Broadcast:
    """The clients of a process, and what was sent to them last."""

    def __init__(self, *, heartbeat_every: timedelta) -> None:
        self._followers: dict[Follower, None] = {}
        self._occupied = asyncio.Event()
        self._recent: deque[Message] = deque()
        # Where the stream is read, and after what all of it is remembered; nowhere at first.
        self._position: EntryId | None = None
        self._complete_after: EntryId = (0, 0)
        self._heartbeat_every = heartbeat_every.total_seconds()
        self._sent_at = 0.0
        self._is_closed = False

    @property
    def position(self) -> EntryId | None:
        """The last entry that was read; None while the stream is not."""
        return self._position

    @property
    def complete_after(self) -> EntryId:
        """The entry after which all messages are remembered."""
        return self._complete_after

    @contextlib.contextmanager
    def following(self, follower: Follower) -> Generator[None]:
        """Count a client for the length of the block; it is sent nothing until it joins."""
        self._followers[follower] = None
        self._occupied.set()
        _FOLLOWERS.inc()
        if self._is_closed:
            follower.end()
        try:
            yield
        finally:
            follower.end()
            del self._followers[follower]
            if not self._followers:
                self._occupied.clear()
            _FOLLOWERS.dec()

    def join(self, follower: Follower) -> bool:
        """Send a client what it has missed, and from now on all that comes.

        False, and nothing is sent, when it has missed more than is remembered.
        """
        if follower.has_ended:
            return True
        if self._position is None or follower.seen < self._complete_after:
            return False
        follower.is_live = True
        if missed := [one for one in self._recent if one.id > follower.seen]:
            follower.write(Frames(missed))
        return True

    async def occupied(self) -> None:
        """Wait until somebody follows; where that takes time, the place is forgotten."""
        if not self._followers:
            self.forget()
            await self._occupied.wait()

    def begin(self, position: EntryId) -> None:
        """Begin after an entry, unless that was done meanwhile."""
        if self._position is None:
            self._position = self._complete_after = position

    def forget(self) -> None:
        """Let all go, as what comes next is from another place or stream."""
        self.end_all()
        self._recent.clear()
        self._position = None

    def end_all(self) -> None:
        """Let every client go."""
        for follower in self._followers:
            follower.end()

    def close(self) -> None:
        """Let every client go, and those who come."""
        self._is_closed = True
        self.end_all()

    async def send(self, messages: Sequence[Message], *, position: EntryId) -> None:
        """Send what was read up to an entry to all who have joined, and let the next gather."""
        self._position = position
        recent = self._recent
        recent.extend(messages)
        while len(recent) > REMEMBERED:
            self._complete_after = recent.popleft().id
        if messages and self._followers:
            await self._write(Frames(messages))
            await asyncio.sleep(REST_EACH.total_seconds() * len(self._followers))

    async def run(self) -> None:
        """Send signs of life while there is nothing else to send, and end what lasts too long."""
        loop = asyncio.get_running_loop()
        while True:
            quiet = loop.time() - self._sent_at
            if quiet >= self._heartbeat_every:
                await self._write(_HEARTBEAT)
                quiet = 0
            await asyncio.sleep(self._heartbeat_every - quiet)
            for follower in self._followers:
                if follower.until <= loop.time():
                    follower.end()

    async def _write(self, frames: Frames) -> None:
        self._sent_at = asyncio.get_running_loop().time()
        # Who joins from now on is sent these as what was missed.
        followers = iter(tuple(self._followers))
        while part := tuple(islice(followers, SLICE)):
            for follower in part:
                follower.write(frames)
            await asyncio.sleep(0)
