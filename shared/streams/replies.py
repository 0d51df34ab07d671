"""Request and reply over streams: a process waits for replies on a stream of its own.

A reply only wakes the waiting request. The truth is in PostgreSQL, so a lost reply costs time,
never the result.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.typing import EncodableT, FieldT

from shared.background import repeat
from shared.domain.errors import UnavailableError
from shared.events.outcome import Outcome, OutcomeStatus
from shared.observability.outages import Outages
from shared.redis_connections import milliseconds, translated_errors
from shared.streams.codec import Fields, entry_id, read_entries


@dataclass(frozen=True, slots=True)
class Reply:
    """An outcome on its way to the stream `address`, where the event's publisher reads."""

    address: str
    event_id: UUID
    outcome: Outcome


# More than can wait at once; a reader that fell this far behind has given up on the rest.
MAX_LENGTH = 1_000
TIME_TO_LIVE = timedelta(minutes=2)

# What was read is personal data, and no one's to read again: it goes within twice this.
TRIM_EVERY = timedelta(milliseconds=100)

# How many reads may be overdue before the reader counts as stuck.
MOST_OVERDUE = 5


class Expectation:
    """A block in which a reply is waited for. A generator would take three times as long."""

    __slots__ = ("_future", "_key", "_waiting")

    def __init__(self, waiting: "dict[str, list[asyncio.Future[Outcome]]]", key: str) -> None:
        self._waiting = waiting
        self._key = key
        self._future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> "asyncio.Future[Outcome]":
        self._waiting.setdefault(self._key, []).append(self._future)
        return self._future

    def __exit__(self, *_: object) -> None:
        waiting = self._waiting[self._key]
        waiting.remove(self._future)
        if not waiting:
            del self._waiting[self._key]
        self._future.cancel()


class Replies:
    """One process's reply stream and the requests waiting on it."""

    def __init__(
        self,
        reader: Redis,
        *,
        instance: str,
        block: timedelta,
        outages: Outages | None = None,
    ) -> None:
        self.instance = instance
        self.address = f"reply:{instance}"
        self._reader = reader
        self._block = block
        self._block_ms = milliseconds(block)
        self._waiting: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._read_at = time.monotonic()
        self._trimmed_at = -math.inf
        self._is_untrimmed = False
        # The instance's name is new with every start, so its stream begins with its first reply.
        self._last_id = "0-0"
        self._outages = outages or Outages()

    def expect(self, event_id: UUID) -> "Expectation":
        """Give a future for the event's outcome. Enter before publishing the event."""
        return Expectation(self._waiting, str(event_id))

    async def run(self) -> None:
        """Read replies and wake the requests that wait for them, forever."""
        await repeat(self._read, outages=self._outages, activity="replies")

    async def check(self) -> None:
        """Raise `UnavailableError` unless replies are being read."""
        still = time.monotonic() - self._read_at
        if still > (self._block * MOST_OVERDUE).total_seconds():
            message = f"Replies are not read: no progress for {still:.0f} s"
            raise UnavailableError(message, dependency="redis")

    async def _read(self) -> None:
        with translated_errors():
            reply = await self._reader.xread(
                {self.address: self._last_id},
                block=milliseconds(TRIM_EVERY) if self._is_untrimmed else self._block_ms,
            )
        entries = read_entries(reply)
        for entry in entries:
            self._last_id = entry.id
            self._wake(entry.fields)
        # Not with each read: requests that were woken would wait, and the replies behind these too.
        now = time.monotonic()
        self._is_untrimmed = self._is_untrimmed or bool(entries)
        every = TRIM_EVERY if self._is_untrimmed else TIME_TO_LIVE / 4
        if now - self._trimmed_at >= every.total_seconds():
            await self._trim()
            self._trimmed_at, self._is_untrimmed = now, False
        self._read_at = time.monotonic()

    async def _trim(self) -> None:
        time_part, sequence = entry_id(self._last_id)
        with translated_errors():
            async with self._reader.pipeline(transaction=False) as pipeline:
                pipeline.xtrim(self.address, minid=f"{time_part}-{sequence + 1}", approximate=False)
                # Keeps the stream while its reader lives, and only then.
                pipeline.expire(self.address, TIME_TO_LIVE)
                await pipeline.execute()

    def _wake(self, fields: Fields) -> None:
        outcome = Outcome(OutcomeStatus(fields[b"status"].decode()), fields[b"body"])
        for future in self._waiting.get(fields[b"id"].decode(), ()):
            if not future.done():
                future.set_result(outcome)


def add_replies(pipeline: Pipeline, replies: Sequence[Reply]) -> None:
    """Queue replies on a pipeline that the caller executes."""
    for reply in replies:
        fields: dict[FieldT, EncodableT] = {
            "id": str(reply.event_id),
            "status": reply.outcome.status,
            "body": reply.outcome.body,
        }
        pipeline.xadd(reply.address, fields, maxlen=MAX_LENGTH, approximate=True)
    for address in {reply.address for reply in replies}:
        pipeline.expire(address, TIME_TO_LIVE)  # when its reader has gone


class LateReplies:
    """Answers requests whose own events are acknowledged already; sending twice is harmless."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def send(self, replies: Sequence[Reply]) -> None:
        """Send replies in one round trip."""
        if not replies:
            return
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                add_replies(pipeline, replies)
                await pipeline.execute()
