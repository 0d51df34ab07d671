"""The chores that one process does for all: trimming streams, removing dead consumers."""

from collections.abc import Sequence
from datetime import timedelta

from redis.asyncio import Redis

from shared.streams.leadership import Leadership
from shared.streams.trimmer import Trimmer

HOUSEKEEP_EVERY = timedelta(seconds=5)


class Housekeeping:
    """Done by whoever leads; raises `UnavailableError` when Redis is down."""

    def __init__(
        self,
        redis: Redis,
        *,
        streams: Sequence[str],
        retention: timedelta,
        max_bytes: int,
        name: str,
    ) -> None:
        self._trimmer = Trimmer(redis, streams=streams, retention=retention, max_bytes=max_bytes)
        self._leadership = Leadership(
            redis, chore=f"housekeeping:{streams[0]}", holder=name, lease=HOUSEKEEP_EVERY * 3
        )

    async def run(self) -> None:
        """Do the chores, if it is this process's turn."""
        if await self._leadership.hold():
            await self._trimmer.trim()
            await self._trimmer.remove_idle_consumers()
