"""Imports as Redis keeps them while they go on: how far they have come, and their bad rows.

The position, the counts and the problems of a window move in one step. So an import that was
cut short goes on exactly where it stopped, in whichever process takes it over.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import orjson
from redis.asyncio import Redis

from shared.domain.errors import PermanentError, UnavailableError
from shared.events.catalog import LEADS, SYNCER
from shared.events.envelope import Event, new_id
from shared.lua import Key, lua_script
from shared.redis_connections import hash_tag, keep_safe, milliseconds, translated_errors
from shared.streams.ordering.bookkeeping import find_waiting
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.partition import accepted_at
from shared.streams.publisher import StreamFullError, add_events, memory_of

KEPT = timedelta(days=7)

# Of how many events that wait in a partition it is worth to know their keys.
MOST_WAITING = 1_000

# How long published events may take before they count as lost and are published again.
LOST = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """The number of the last row that was dealt with, and what the import counts.

    `passed_over` are columns whose values are not imported.
    """

    position: int = 0
    counts: dict[str, Any] = field(default_factory=dict[str, Any])
    passed_over: tuple[str, ...] = ()


class ImportJobs:
    """Where imports are, and what they publish.

    With `max_bytes` no events are added to a stream that has grown so large. Events that have
    not been applied `lost` after they were published may be published again.
    """

    def __init__(
        self,
        redis: Redis,
        divisions: Divisions | None = None,
        *,
        max_bytes: int | None = None,
        lost: timedelta = LOST,
    ) -> None:
        self._redis = redis
        self._divisions = divisions or Divisions(redis)
        self._max_bytes = max_bytes
        self._lost = lost

    async def progress(self, import_id: UUID) -> ImportProgress | None:
        """Return how far an import has come; None before its first window and after its end."""
        with translated_errors():
            fields = await self._redis.hgetall(self._key(import_id))
        if not fields:
            return None
        return ImportProgress(
            int(fields[b"position"]),
            orjson.loads(fields[b"counts"]),
            tuple(orjson.loads(fields.get(b"passed_over", b"[]"))),
        )

    async def waiting(self) -> tuple[frozenset[str], str] | None:
        """Return the keys of what waits in the stream of leads and is not held back.

        With them comes where an event counts as accepted that is applied now without an entry. None
        when much waits, or it is not known what.
        """
        division = await self._divisions.refresh(LEADS)
        if not division.is_open:
            return None
        layout = division.last
        found = await find_waiting(self._redis, layout.names, group=SYNCER, most=MOST_WAITING)
        if found is None:
            return None
        time, sequence = found.newest
        return found.keys, accepted_at(layout.number, f"{time}-{sequence + 1}")

    async def offer(self, import_id: UUID, *, window: str, events: Sequence[Event]) -> None:
        """Publish the events of a window, unless they have just been.

        Raises `StreamFullError` when there is no room.
        """
        mark = f"{self._key(import_id)}:offered:{window}"
        with translated_errors():
            if await self._redis.exists(mark):
                return
        if self._max_bytes:
            streams = await self._divisions.streams_of(LEADS)
            if await memory_of(self._redis, *streams) > self._max_bytes:
                raise StreamFullError(LEADS)
        # Before the mark: a process that dies in between leaves the events to be added again.
        await add_events(self._redis, events, self._divisions)
        with translated_errors():
            await self._redis.set(mark, 1, px=milliseconds(self._lost))

    async def advance(
        self, import_id: UUID, progress: ImportProgress, *, after: int, problems: bytes
    ) -> bool:
        """Move on from the position `after`, and keep lines about rows that were not written.

        False when the position is another one by now.
        """
        with translated_errors():
            return await advance_import(
                self._redis,
                job=self._key(import_id),
                errors=self._errors_key(import_id),
                after=after,
                position=progress.position,
                counts=orjson.dumps(progress.counts),
                passed_over=orjson.dumps(progress.passed_over),
                problems=zlib.compress(problems) if problems else b"",
                kept=KEPT,
            )

    async def errors(self, import_id: UUID) -> AsyncGenerator[bytes]:
        """Yield the lines about rows that were not written, many at a time."""
        number = 0
        while True:
            with translated_errors():
                chunk = await self._redis.lindex(self._errors_key(import_id), number)
            if chunk is None:
                return
            yield zlib.decompress(cast("bytes", chunk))
            number += 1

    async def remove_progress(self, import_id: UUID) -> None:
        """Remove the position of an import that has ended; its errors stay for their time."""
        with translated_errors():
            await self._redis.delete(self._key(import_id))

    def _key(self, import_id: UUID) -> str:
        return _import_key(self._redis, import_id)

    def _errors_key(self, import_id: UUID) -> str:
        return f"{self._key(import_id)}:errors"


# The first process to finish a window moves the position; one that was taken for dead is late.
@lua_script("""
if tonumber(redis.call('HGET', job, 'position') or '0') ~= after then return 0 end
redis.call('HSET', job, 'position', position, 'counts', counts, 'passed_over', passed_over)
redis.call('PEXPIRE', job, kept)
if problems ~= '' then
  redis.call('RPUSH', errors, problems)
  redis.call('PEXPIRE', errors, kept)
end
return 1
""")
def advance_import(
    *,
    job: Key,
    errors: Key,
    after: int,
    position: int,
    counts: bytes,
    passed_over: bytes,
    problems: bytes,
    kept: timedelta,
) -> bool:
    """Move an import on from the position `after`; false when it is elsewhere by now."""
    raise NotImplementedError


def _import_key(redis: Redis, import_id: UUID) -> str:
    return f"import:{hash_tag(redis, str(import_id))}"


# The files of imports, kept beside the streams while they are in work.
#
# They hold personal data, so nothing of a file outlives its import: what no process works on
# expires in the end.

# An upload that its process did not live to see the end of.
UPLOAD_KEPT = timedelta(hours=1)
WAITING = "imports"

# Chunks are read back one by one, so they cost time rather than memory.
_COMPRESSION = 1


class Upload:
    """The file of an import on its way in."""

    def __init__(self, redis: Redis, import_id: UUID) -> None:
        self._redis = redis
        self._key = f"{_import_key(redis, import_id)}:{new_id()}:file"
        self._file = file_key(redis, import_id)

    async def append(self, chunk: bytes) -> None:
        """Keep the next part of the file."""
        compressed = await asyncio.to_thread(zlib.compress, chunk, _COMPRESSION)
        with translated_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.rpush(self._key, compressed)
                pipeline.expire(self._key, UPLOAD_KEPT)
                await pipeline.execute()

    async def keep(self) -> None:
        """Make it the import's file, unless it has one: a repeated upload is the same."""
        with translated_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                keep_safe(pipeline)
                pipeline.renamenx(self._key, self._file)
                pipeline.delete(self._key)
                await pipeline.execute()

    async def discard(self) -> None:
        """Remove what has come in."""
        with translated_errors():
            await self._redis.delete(self._key)


class ImportFiles:
    """The files of all imports."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @contextlib.asynccontextmanager
    async def uploading(self, import_id: UUID) -> AsyncGenerator[Upload]:
        """Take a file in; nothing of it stays when the block fails."""
        upload = Upload(self._redis, import_id)
        try:
            yield upload
        except BaseException:
            # Else it goes when its time is over.
            with contextlib.suppress(UnavailableError):
                await upload.discard()
            raise

    async def keep(self, import_id: UUID) -> None:
        """Keep an import's file for its whole time from now on."""
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.expire(file_key(self._redis, import_id), KEPT)
                pipeline.zadd(WAITING, {str(import_id): time.time() + KEPT.total_seconds()})
                await pipeline.execute()

    async def waiting(self) -> int:
        """Return how many imports have not come to their end."""
        with translated_errors():
            await self._redis.zremrangebyscore(WAITING, "-inf", time.time())
            return int(await self._redis.zcard(WAITING))

    async def has(self, import_id: UUID) -> bool:
        """Return whether an import's file is there."""
        with translated_errors():
            return bool(await self._redis.exists(file_key(self._redis, import_id)))

    async def chunk(self, import_id: UUID, number: int) -> bytes:
        """Return a part of a file, empty after the last one.

        Raises `PermanentError`, with code `file-gone` when there is no file any more, or
        `file-damaged` when the part is not what was kept.
        """
        key = file_key(self._redis, import_id)
        with translated_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.exists(key)
                pipeline.lindex(key, number)
                exists, chunk = await pipeline.execute()
        if not exists:
            raise PermanentError("The file is not there any more", code="file-gone")
        if chunk is None:
            return b""
        try:
            return zlib.decompress(cast("bytes", chunk))
        except zlib.error as error:
            raise PermanentError("A part of the file is damaged", code="file-damaged") from error

    async def remove_file(self, import_id: UUID) -> None:
        """Remove the file of an import that has ended."""
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.delete(file_key(self._redis, import_id))
                pipeline.zrem(WAITING, str(import_id))
                await pipeline.execute()


def file_key(redis: Redis, import_id: UUID) -> str:
    """Return the list in which an import's file is kept."""
    return f"{_import_key(redis, import_id)}:file"
