"""The files of imports, kept beside the streams while they are in work.

They hold personal data, so nothing of a file outlives its import: what nobody works on is
forgotten in the end.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import cast
from uuid import UUID

from redis.asyncio import Redis

from shared.domain.errors import PermanentError, UnavailableError
from shared.events.envelope import new_id
from shared.streams.connection import translated_errors

KEPT = timedelta(days=7)
# An upload that its process did not live to see the end of.
UPLOAD_KEPT = timedelta(hours=1)
WAITING = "imports"

# Chunks are read back one by one, so they cost time rather than memory.
_COMPRESSION = 1


class Upload:
    """A file on its way in."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._key = file_key(new_id())

    async def append(self, chunk: bytes) -> None:
        """Keep the next part of the file."""
        compressed = await asyncio.to_thread(zlib.compress, chunk, _COMPRESSION)
        with translated_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.rpush(self._key, compressed)
                pipeline.expire(self._key, UPLOAD_KEPT)
                await pipeline.execute()

    async def keep_as(self, import_id: UUID) -> None:
        """Make it the file of an import, unless that has one: a repeated upload is the same."""
        with translated_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.renamenx(self._key, file_key(import_id))
                pipeline.delete(self._key)
                await pipeline.execute()

    async def discard(self) -> None:
        """Forget what came of it."""
        with translated_errors():
            await self._redis.delete(self._key)


class ImportFiles:
    """Every method raises `UnavailableError` when Redis is down."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @contextlib.asynccontextmanager
    async def uploading(self) -> AsyncGenerator[Upload]:
        """Take a file in; nothing of it stays when the block fails."""
        upload = Upload(self._redis)
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
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.expire(file_key(import_id), KEPT)
                pipeline.zadd(WAITING, {str(import_id): time.time() + KEPT.total_seconds()})
                await pipeline.execute()

    async def waiting(self) -> int:
        """Return how many imports have not come to their end."""
        with translated_errors():
            await self._redis.zremrangebyscore(WAITING, "-inf", time.time())
            return int(await self._redis.zcard(WAITING))

    async def has(self, import_id: UUID) -> bool:
        """Tell whether an import's file is there."""
        with translated_errors():
            return bool(await self._redis.exists(file_key(import_id)))

    async def chunk(self, import_id: UUID, number: int) -> bytes:
        """Return a part of a file, empty behind the last one.

        Raises `PermanentError`, with code `file-gone` when there is no file any more, or
        `file-damaged` when the part is not what was kept.
        """
        with translated_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.exists(file_key(import_id))
                pipeline.lindex(file_key(import_id), number)
                exists, chunk = await pipeline.execute()
        if not exists:
            raise PermanentError("The file is not there any more", code="file-gone")
        if chunk is None:
            return b""
        try:
            return zlib.decompress(cast("bytes", chunk))
        except zlib.error as error:
            raise PermanentError("A part of the file is damaged", code="file-damaged") from error

    async def forget(self, import_id: UUID) -> None:
        """Remove the file of an import that has ended."""
        with translated_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.delete(file_key(import_id))
                pipeline.zrem(WAITING, str(import_id))
                await pipeline.execute()


def file_key(file_id: UUID) -> str:
    """Return the list in which a file is kept."""
    return f"import:{file_id}:file"
