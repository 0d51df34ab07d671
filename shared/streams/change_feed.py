"""Changes for any number of readers in one process, read from Redis once.

A reader first catches up from where it was, then gets what comes. A reader that is too slow for
that is cut off rather than waited for: it comes back with the last id it saw.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import timedelta

import structlog
from redis.asyncio import Redis

from shared.background import repeat
from shared.domain.errors import UnavailableError
from shared.events.catalog import CHANGES
from shared.observability.metrics import gauge
from shared.observability.outages import Outages
from shared.redis_connections import milliseconds, translated_errors
from shared.streams.codec import Entry, entries_of, entry_id, read_entries
from shared.streams.consuming.group import stream_info

log = structlog.get_logger(__name__)

# Entries that may wait for a reader, and those fetched at a time while it catches up.
MOST_WAITING = 1_000
PAGE = 500

# Two places before all entries: of who wants all that there are, and of who saw that there was none
# and so is to be told when some went away unseen.
BEGINNING = "0-0"
NOTHING_YET = "0-1"
LARGEST_PART = 2**64 - 1

_match_entry_id = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?").fullmatch


def parse_entry_id(text: str) -> str | None:
    """Return an entry's id in full, or None for what cannot be one."""
    match = _match_entry_id(text)
    if match is None:
        return None
    parts = int(match[1]), int(match[2] or "0")
    return None if max(parts) > LARGEST_PART else "{}-{}".format(*parts)


_FOLLOWERS = gauge("leads_followers", "Clients that follow the changes of leads.")


class Follower:
    """One reader's place in the feed: after the entry with the id `since`."""

    def __init__(self, *, since: str) -> None:
        self.since = since
        self._waiting: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._has_ended = False

    async def read(self, *, within: timedelta) -> Sequence[Entry] | None:
        """Return what has come: nothing when nothing did in time, None when this is the end."""
        if not self._has_ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within.total_seconds()):
                    await self._wake.wait()
        if self._has_ended:
            return None
        self._wake.clear()
        entries = tuple(self._waiting)
        self._waiting.clear()
        return entries

    def push(self, entries: Sequence[Entry]) -> None:
        if self._has_ended:
            return
        self._waiting.extend(entries)
        self._wake.set()
        if len(self._waiting) > MOST_WAITING:
            self.end()

    def end(self) -> None:
        self._has_ended = True
        self._waiting.clear()
        self._wake.set()


class ChangeFeed:
    """Follows the stream of changes for all readers of a process."""

    def __init__(
        self, redis: Redis, reader: Redis, *, block: timedelta, outages: Outages | None = None
    ) -> None:
        self._redis = redis
        self._reader = reader
        self._block = milliseconds(block)
        self._followers: set[Follower] = set()
        self._position: str | None = None
        self._is_closed = False
        self._outages = outages or Outages()

    async def run(self) -> None:
        """Read the stream and pass it on to every follower, forever."""
        await repeat(self._read, outages=self._outages, activity="changes")

    @contextlib.contextmanager
    def following(self) -> Generator[Follower]:
        """Give a place in the feed: from now on, nothing is missed unless the place overflows."""
        if self._position is None:
            raise UnavailableError("The stream of changes is not being read yet")
        follower = Follower(since=self._position)
        self._followers.add(follower)
        _FOLLOWERS.inc()
        if self._is_closed:
            follower.end()
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            _FOLLOWERS.dec()

    def close(self) -> None:
        """Let every follower go."""
        self._is_closed = True
        for follower in self._followers:
            follower.end()

    async def resume(self, position: str) -> tuple[str, bool]:
        """Return the entry id after which to go on, and whether nothing is missing before it."""
        last, complete_after = await self._ends()
        if entry_id(position) > entry_id(last):  # an entry of a stream that is gone
            return last, False
        if position == BEGINNING or entry_id(position) >= entry_id(complete_after):
            return position, True
        return complete_after, False

    async def history(self, *, after: str) -> AsyncGenerator[Entry]:
        """Yield the entries after an id, up to now."""
        while True:
            with translated_errors():
                page = entries_of(await self._redis.xrange(CHANGES, min=f"({after}", count=PAGE))
            for entry in page:
                yield entry
            if len(page) < PAGE:
                return
            after = page[-1].id

    async def _read(self) -> None:
        if self._position is None:
            self._position, _ = await self._ends()
        with translated_errors():
            reply = await self._reader.xread({CHANGES: self._position}, block=self._block)
        entries = read_entries(reply)
        if entries:
            self._position = entries[-1].id
            for follower in self._followers:
                follower.push(entries)
        else:
            await self._check_position(self._position)

    async def _check_position(self, position: str) -> None:
        """Begin anew when the stream was lost: ids below those of the old one are passed over."""
        last, _ = await self._ends()
        if entry_id(position) > entry_id(last):
            log.warning("changes.lost", position=position, last=last)
            self._position = last
            for follower in self._followers:
                follower.end()

    async def _ends(self) -> tuple[str, str]:
        """Return the id of the last entry ever, and the one after which all are still there."""
        info = await stream_info(self._redis, CHANGES)
        if not info:
            return NOTHING_YET, NOTHING_YET
        last = info["last-generated-id"].decode()
        if info["entries-added"] == info["length"]:
            return last, NOTHING_YET
        first = info["first-entry"]
        return last, _before(first[0].decode()) if first else last


def _before(entry: str) -> str:
    """Return the greatest id below an entry's."""
    time, number = entry_id(entry)
    return f"{time}-{number - 1}" if number else f"{time - 1}-{LARGEST_PART}"
