"""The entries that a replay has put back, removed again once every group is done with them.

A million copies would crowd the stream's own history out of its bound.
"""

from collections import deque
from collections.abc import Sequence

from redis.asyncio import Redis

from shared.streams.connection import translated_errors
from shared.streams.group_progress import EntryId, entry_id, finished_before


class ReplayedEntries:
    """Remembers what one process has added; what it does not get to, the retention ends.

    Only what lies behind every group is removed. A deletion ahead of a group would leave
    Redis unable to tell its lag.
    """

    def __init__(self, redis: Redis, *, stream: str) -> None:
        self._redis = redis
        self._stream = stream
        self._batches: deque[Sequence[str]] = deque()

    def remember(self, entry_ids: Sequence[str]) -> None:
        """Note a batch of entries, in the order of their ids."""
        if entry_ids:
            self._batches.append(entry_ids)

    async def remove_finished(self) -> None:
        """Remove the batches that all groups have finished; raises `UnavailableError`."""
        if not self._batches:
            return
        boundary = await finished_before(self._redis, self._stream)
        with translated_errors():
            while self._batches and _last(self._batches[0]) < boundary:
                await self._redis.xdel(self._stream, *self._batches[0])
                self._batches.popleft()


def _last(entry_ids: Sequence[str]) -> EntryId:
    return entry_id(entry_ids[-1])
