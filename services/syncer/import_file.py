"""A kept file: checked to be whole, then read line by line. No more of it is held than a chunk."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from shared.domain.errors import PermanentError
from shared.lead_files.reading import lines_of
from shared.streams.imports import ImportFiles


class _Chunks(io.RawIOBase):
    """Bytes that come in numbered chunks, the last of which is empty."""

    def __init__(self, fetch: Callable[[int], bytes]) -> None:
        super().__init__()
        self._fetch = fetch
        self._number = 0
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._chunk:
            self._chunk = memoryview(self._fetch(self._number))
            self._number += 1
        target = memoryview(buffer)
        size = min(len(target), len(self._chunk))
        target[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return size


async def check_file(files: ImportFiles, import_id: UUID, *, sha256: str) -> None:
    """Raise `PermanentError` unless an import's file is there as it was sent.

    Its code is `file-gone`, or `file-damaged` when a part is missing or another one.
    """
    digest, number = hashlib.sha256(), 0
    while chunk := await files.chunk(import_id, number):
        digest.update(chunk)
        number += 1
    if digest.hexdigest() != sha256:
        raise PermanentError("The file is not as it was sent", code="file-damaged")


def kept_lines(files: ImportFiles, import_id: UUID) -> Iterator[str]:
    """Return the lines of an import's file, to be read in another thread than this one.

    Reading raises what `ImportFiles.chunk` does. What is no UTF-8 becomes surrogates, which no
    lead has.
    """
    loop = asyncio.get_running_loop()

    def fetch(number: int) -> bytes:
        return asyncio.run_coroutine_threadsafe(files.chunk(import_id, number), loop).result()

    raw = io.BufferedReader(_Chunks(fetch))
    text = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
    return lines_of(text)
