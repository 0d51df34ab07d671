"""PostgreSQL's lock file after a crash: waits for the last of its processes, then clears it."""

import asyncio
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from devstack.errors import CannotRunError

LOCK_FILE = "postmaster.pid"
PATIENCE = timedelta(seconds=10)
POLL = timedelta(milliseconds=20)


class ClusterInUseError(CannotRunError):
    """Another PostgreSQL runs on the same data directory."""


async def clear_stale_lock(cluster: Path, *, patience: timedelta = PATIENCE) -> None:
    """Removes the lock file that `kill -9` leaves behind, when nothing uses the data any more.

    PostgreSQL takes the file for stale when its process is gone, but not when some other program
    has got that process id since, which is usual in a container. Where /proc does not tell who
    works in the directory, PostgreSQL's own judgement has to do.
    """
    lock = cluster / LOCK_FILE
    if sys.platform != "linux" or not lock.exists():
        return
    patience_ends = time.monotonic() + patience.total_seconds()
    while pids := processes_in(cluster):
        if time.monotonic() > patience_ends:
            raise ClusterInUseError(f"PostgreSQL already runs on {cluster}, as {sorted(pids)}")
        await asyncio.sleep(POLL.total_seconds())
    lock.unlink(missing_ok=True)


def processes_in(directory: Path) -> set[int]:
    """Returns the processes that have this working directory, as every one of a PostgreSQL has."""
    wanted = directory.resolve()
    found: set[int] = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # a process that has just ended, or another user's
            if link.readlink() == wanted:
                found.add(int(link.parent.name))
    return found
