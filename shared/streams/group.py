"""One consumer's standing in its group: owning, keeping and giving back entries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import redis
from redis.asyncio import Redis

from shared.streams.connection import GROUP_GONE, translated_errors
from shared.streams.entries import Entry, entries_of, read_entries

# Only the owner may reset an entry's idle time: without the check a process that slept
# through its lease would take entries back from whoever took them over. An entry that is
# given back was delivered for nothing, and must not look as if its consumer had died.
_SET_IDLE = """
local kept = 0
for i = 5, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if #pending == 1 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3],
      'RETRYCOUNT', pending[1][4] - tonumber(ARGV[4]), 'JUSTID')
    kept = kept + 1
  end
end
return kept
"""

# XGROUP DELCONSUMER drops the consumer's pending entries for good, so none may be left.
DELETE_UNLESS_PENDING = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if #pending == 0 then return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) end
return -1
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that was delivered and not acknowledged for at least a lease."""

    entry_id: str
    consumer: str
    deliveries: int


class Group:
    """A consumer group as one of its consumers sees it.

    Every method raises `UnavailableError` when Redis is down.
    """

    def __init__(
        self, writer: Redis, reader: Redis, *, stream: str, group: str, consumer: str
    ) -> None:
        self.stream = stream
        self.name = group
        self.consumer = consumer
        self._writer = writer
        self._reader = reader
        self._set_idle = writer.register_script(_SET_IDLE)
        self._leave = writer.register_script(DELETE_UNLESS_PENDING)

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

        Must not be cancelled: the server would deliver entries that nobody gets to see.
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
        """Return entries that have lain idle, without touching them."""
        with translated_errors():
            rows = await self._writer.xpending_range(
                self.stream, self.name, "-", "+", count, idle=milliseconds(idle)
            )
        return [_pending(row) for row in cast("list[dict[str, Any]]", rows)]

    async def is_unchanged(self, pending: Pending, *, idle: timedelta) -> bool:
        """Tell whether a pending entry is still as it was seen, in nobody else's hands since."""
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
        await self._idle(entry_ids, timedelta(0), deliveries_undone=0)

    async def hand_back(self, entry_ids: Sequence[str], *, lease: timedelta) -> None:
        """Let another consumer claim these entries at once."""
        await self._idle(entry_ids, lease, deliveries_undone=1)

    async def leave(self) -> None:
        """Delete this consumer from the group unless entries are pending for it."""
        with translated_errors():
            await self._leave(keys=[self.stream], args=[self.name, self.consumer])

    async def _idle(
        self, entry_ids: Sequence[str], idle: timedelta, *, deliveries_undone: int
    ) -> None:
        if entry_ids:
            with translated_errors():
                await self._set_idle(
                    keys=[self.stream],
                    args=[
                        self.name,
                        self.consumer,
                        milliseconds(idle),
                        deliveries_undone,
                        *entry_ids,
                    ],
                )


def _pending(row: dict[str, Any]) -> Pending:
    return Pending(
        row["message_id"].decode(), row["consumer"].decode(), int(row["times_delivered"])
    )


def milliseconds(span: timedelta) -> int:
    """Return a span in Redis' unit."""
    return int(span / timedelta(milliseconds=1))
