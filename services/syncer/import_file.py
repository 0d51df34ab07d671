"""A kept file as text, for a thread to read line by line: no more of it is held than a chunk."""

import asyncio
import io
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from shared.lead_files.reading import lines_of
from shared.streams.import_files import ImportFiles


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


def kept_lines(files: ImportFiles, import_id: UUID) -> Iterator[str]:
    """Return the lines of an import's file, to be read in another thread than this one.

    Reading raises `UnavailableError`, or `PermanentError` with code `file-gone`. What is no
    UTF-8 becomes surrogates, which no lead has.
    """
    loop = asyncio.get_running_loop()

    def fetch(number: int) -> bytes:
        return asyncio.run_coroutine_threadsafe(files.chunk(import_id, number), loop).result()

    raw = io.BufferedReader(_Chunks(fetch))
    text = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
    return lines_of(text)
