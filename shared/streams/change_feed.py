"""Changes of leads, read from Redis once for all who follow them in a process.

Who comes late first reads the entries after the last one it saw.
"""

from collections.abc import Sequence
from datetime import timedelta

from redis.asyncio import Redis

from shared.events.catalog import CHANGES
from shared.redis_connections import milliseconds, translated_errors
from shared.streams.codec import LARGEST_PART, Entry, entries_of, entry_id, read_entries
from shared.streams.consuming.group import stream_info

# Entries that are fetched at a time.
PAGE = 500

# Two places before all entries: of who wants all that there are, and of who saw that there was none
# and so is to be told when some went away unseen.
BEGINNING = "0-0"
NOTHING_YET = "0-1"


class ChangeFeed:
    """Reads the stream of changes for all who follow them in a process."""

    def __init__(self, redis: Redis, reader: Redis, *, block: timedelta) -> None:
        self._redis = redis
        self._reader = reader
        self._block = milliseconds(block)

    async def last(self) -> str:
        """Return the id of the last entry that there ever was."""
        return (await self._ends())[0]

    async def next(self, *, after: str) -> Sequence[Entry]:
        """Wait for entries after an id; none come when there are none for a while."""
        with translated_errors():
            return read_entries(
                await self._reader.xread({CHANGES: after}, count=PAGE, block=self._block)
            )

    async def resume(self, position: str) -> tuple[str, bool]:
        """Return the entry id after which to go on, and whether nothing is missing before it."""
        last, complete_after = await self._ends()
        if entry_id(position) > entry_id(last):  # an entry of a stream that is gone
            return last, False
        if position == BEGINNING or entry_id(position) >= entry_id(complete_after):
            return position, True
        return complete_after, False

    async def page(self, *, after: str) -> Sequence[Entry]:
        """Return the next entries after an id, up to now; fewer than `PAGE` are all there are."""
        with translated_errors():
            return entries_of(await self._redis.xrange(CHANGES, min=f"({after}", count=PAGE))

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
