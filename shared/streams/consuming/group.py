"""A consumer group: what one of its consumers does in it, and how far it has come."""

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import redis
from redis.asyncio import Redis

from shared.lua import Key, lua_script
from shared.redis_connections import milliseconds, translated_errors
from shared.streams.codec import Entry, EntryId, entries_of, entry_id, read_entries

# What a command answers when its group went with the stream, until the reader has made it anew.
GROUP_GONE = ("NOGROUP", "UNBLOCKED")


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that was delivered and not acknowledged for at least a lease."""

    entry_id: str
    consumer: str
    deliveries: int


class Group:
    """A consumer group as one of its consumers sees it.

    Blocking reads have a client of their own, `reader`.
    """

    def __init__(
        self, writer: Redis, reader: Redis, *, stream: str, group: str, consumer: str
    ) -> None:
        self.stream = stream
        self.name = group
        self.consumer = consumer
        self._writer = writer
        self._reader = reader

    async def ensure(self) -> None:
        """Create the stream and the group unless they exist.

        From the stream's beginning: after a loss that repeats events, which are applied
        once, where starting at the end would skip some.
        """
        with translated_errors():
            try:
                await self._writer.xgroup_create(self.stream, self.name, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
            # Redis 7.0 would show a consumer only once it has got an entry.
            await self._writer.xgroup_createconsumer(self.stream, self.name, self.consumer)

    async def read(self, *, count: int, block: timedelta) -> list[Entry]:
        """Return up to `count` new entries, waiting up to `block` for the first.

        Must not be cancelled: the server would deliver entries that no one gets to see.
        """
        with translated_errors():
            try:
                reply = await self._reader.xreadgroup(
                    self.name,
                    self.consumer,
                    {self.stream: ">"},
                    count=count,
                    block=milliseconds(block),
                )
            except redis.ResponseError as error:
                # The stream was deleted: Valkey answers NOGROUP, Redis 7.0 UNBLOCKED.
                if not str(error).startswith(GROUP_GONE):
                    raise
                await self.ensure()
                return []
        return read_entries(reply)

    async def pending(self, *, idle: timedelta, count: int) -> list[Pending]:
        """Return entries that have been idle for so long, without touching them."""
        with translated_errors():
            rows = await self._writer.xpending_range(
                self.stream, self.name, "-", "+", count, idle=milliseconds(idle)
            )
        return [_pending(row) for row in cast("list[dict[str, Any]]", rows)]

    async def is_unchanged(self, pending: Pending, *, idle: timedelta) -> bool:
        """Return whether a pending entry is as it was seen: no consumer has had it since."""
        entry_id = pending.entry_id
        with translated_errors():
            rows = await self._writer.xpending_range(
                self.stream, self.name, entry_id, entry_id, 1, idle=milliseconds(idle)
            )
        return [_pending(row) for row in cast("list[dict[str, Any]]", rows)] == [pending]

    async def claim(self, entry_id: str, *, idle: timedelta) -> Entry | None:
        """Take over one idle entry; None when another consumer was faster, or it is gone."""
        with translated_errors():
            reply = await self._writer.xclaim(
                self.stream, self.name, self.consumer, milliseconds(idle), [entry_id]
            )
        return next(iter(entries_of(reply)), None)

    async def keep(self, entry_ids: Sequence[str]) -> None:
        """Show that these entries are being worked on, if they are still this consumer's."""
        await self._set_idle(entry_ids, timedelta(0), deliveries_undone=0)

    async def hand_back(self, entry_ids: Sequence[str], *, lease: timedelta) -> None:
        """Let another consumer claim these entries at once.

        They were delivered for nothing, and must not look as if their consumer had died.
        """
        await self._set_idle(entry_ids, lease, deliveries_undone=1)

    async def leave(self) -> None:
        """Delete this consumer from the group unless entries are pending for it."""
        with translated_errors():
            await delete_unless_pending(
                self._writer, stream=self.stream, group=self.name, consumer=self.consumer
            )

    async def _set_idle(
        self, entry_ids: Sequence[str], idle: timedelta, *, deliveries_undone: int
    ) -> None:
        if entry_ids:
            with translated_errors():
                await set_idle(
                    self._writer,
                    stream=self.stream,
                    group=self.name,
                    consumer=self.consumer,
                    idle=idle,
                    deliveries_undone=deliveries_undone,
                    entry_ids=entry_ids,
                )


# Only the owner may reset an entry's idle time: without the check a process that slept
# through its lease would take entries back from the consumers that took them over.
@lua_script("""
for _, id in ipairs(entry_ids) do
  local pending = redis.call('XPENDING', stream, group, id, id, 1, consumer)
  if #pending == 1 then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'IDLE', idle,
      'RETRYCOUNT', pending[1][4] - deliveries_undone, 'JUSTID')
  end
end
""")
def set_idle(
    *,
    stream: Key,
    group: str,
    consumer: str,
    idle: timedelta,
    deliveries_undone: int,
    entry_ids: Sequence[str],
) -> None:
    """Set for how long a consumer's entries have been idle; pass over those it lost."""
    raise NotImplementedError


# XGROUP DELCONSUMER drops the consumer's pending entries for good, so none may be left.
@lua_script("""
local pending = redis.call('XPENDING', stream, group, '-', '+', 1, consumer)
if #pending == 0 then redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer) end
""")
def delete_unless_pending(*, stream: Key, group: str, consumer: str) -> None:
    """Delete a consumer that has no pending entries."""
    raise NotImplementedError


def _pending(row: dict[str, Any]) -> Pending:
    return Pending(
        row["message_id"].decode(), row["consumer"].decode(), int(row["times_delivered"])
    )


# How far groups have come. Entries before all of these ids are of no use to any group.


async def stream_info(client: Redis, stream: str) -> dict[str, Any]:
    """Return what Redis says of a stream; nothing when there is no stream."""
    with translated_errors(), _nothing_without_a_stream():
        return await client.xinfo_stream(stream)
    return {}


async def groups_info(client: Redis, stream: str) -> list[dict[str, Any]]:
    """Return what Redis says of a stream's groups; none when there is no stream."""
    with translated_errors(), _nothing_without_a_stream():
        return await client.xinfo_groups(stream)
    return []


@contextlib.contextmanager
def _nothing_without_a_stream() -> Generator[None]:
    try:
        yield
    except redis.ResponseError as error:
        if not _says_that_there_is_none(error):
            raise


def there_or(reply: Any, otherwise: Any) -> Any:
    """Return a pipeline's reply, or something else where there is no stream; raises its errors."""
    if not isinstance(reply, Exception):
        return reply
    if _says_that_there_is_none(reply):
        return otherwise
    raise reply


def _says_that_there_is_none(error: Exception) -> bool:
    return isinstance(error, redis.ResponseError) and "no such key" in str(error)


# A script, as each server has a clock of its own and a command without a key is for any.
@lua_script("""
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
""")
def time_at(*, stream: Key) -> int:
    """Return the time in ms by the clock of the server that has a stream."""
    raise NotImplementedError


async def first_unfinished(client: Redis, stream: str, group: dict[str, Any]) -> EntryId:
    """Return the id of a group's oldest pending entry, or the one after the last delivered."""
    if group["pending"]:
        with translated_errors():
            oldest = (await client.xpending(stream, group["name"]))["min"]
        if oldest is not None:
            return entry_id(oldest)
    time, sequence = entry_id(group["last-delivered-id"])
    return time, sequence + 1


async def finished_before(client: Redis, stream: str, *, group: str | None = None) -> EntryId:
    """Return the first entry id that this group, or some group of the stream, has not finished."""
    unfinished = [
        await first_unfinished(client, stream, info)
        for info in await groups_info(client, stream)
        if group is None or info["name"].decode() == group
    ]
    return min(unfinished, default=(0, 0))


async def first_entry(client: Redis, stream: str) -> EntryId | None:
    """Return the id of the oldest entry that a stream holds; None when there is none."""
    with translated_errors():
        oldest = entries_of(await client.xrange(stream, count=1))
    return entry_id(oldest[0].id) if oldest else None


async def last_entry(client: Redis, stream: str) -> EntryId | None:
    """Return the id of the newest entry that a stream holds; None when there is none."""
    with translated_errors():
        newest = entries_of(await client.xrevrange(stream, count=1))
    return entry_id(newest[0].id) if newest else None
