"""Counts entries where they are, and how many of them a group was given in a while."""

from collections.abc import Mapping
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.lua import Key, lua_script
from shared.redis_connections import translated_errors
from shared.streams.codec import entry_id
from shared.streams.consuming.group import there_or


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMark:
    """Where a group was: `left` entries came after it, up to `end`, and perhaps more after that."""

    position: str
    pending: int
    left: int
    end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMark:
    """Where what is one stream in Redis was, and its groups by their names."""

    added: int
    groups: Mapping[str, GroupMark]


class EntryCounter:
    """Counts up to `page` entries at a time, without having them sent."""

    def __init__(self, client: Redis, *, page: int) -> None:
        self._redis = client
        self._page = page

    async def mark(self, stream: str) -> StreamMark:
        """Return where the groups of what is one stream in Redis are."""
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.xinfo_stream(stream)
                pipeline.xinfo_groups(stream)
                info, groups = await pipeline.execute(raise_on_error=False)
            marks: dict[str, GroupMark] = {}
            for group in there_or(groups, []):
                position = group["last-delivered-id"].decode()
                left, _, end = await self.count(stream, after=position)
                marks[group["name"].decode()] = GroupMark(
                    position=position, pending=int(group["pending"]), left=left, end=end
                )
        return StreamMark(added=int(there_or(info, {}).get("entries-added", 0)), groups=marks)

    async def given_since(
        self,
        was: GroupMark,
        stream: str,
        *,
        position: str,
        added: int,
        undelivered: int | None,
    ) -> int | None:
        """Return how many entries a group was given while so many were added; None when unknown.

        Not what is between its two positions: copies that are done with are no longer there.
        """
        if position == was.position:
            return 0
        if was.left < self._page:  # all that there was
            return None if undelivered is None else was.left + added - undelivered
        if entry_id(position) < entry_id(was.end):
            left, _, _ = await self.count(stream, after=position, end=was.end)
            return was.left - left
        more, _, _ = await self.count(stream, after=was.end, end=position)
        return None if more == self._page else was.left + more

    async def count(self, stream: str, *, after: str, end: str = "+") -> tuple[int, str, str]:
        """Count a page of entries after an id; returns their number, and the ids of both ends."""
        with translated_errors():
            number, first, last = await count_entries(
                self._redis, stream=stream, start=f"({after}", stop=end, most=self._page
            )
        return number, first.decode(), last.decode()


@lua_script("""
local entries = redis.call('XRANGE', stream, start, stop, 'COUNT', most)
local first, last = entries[1], entries[#entries]
return {#entries, first and first[1] or '', last and last[1] or ''}
""")
def count_entries(*, stream: Key, start: str, stop: str, most: int) -> tuple[int, bytes, bytes]:
    """Count entries between two ids, up to so many, without sending them; with both ends' ids."""
    raise NotImplementedError
