"""Which process this is, and whether another one on the same host has ended.

A process that ended without a word keeps its partitions until its lease is over. On its own host
that can be seen at once.
"""

import os
import socket
from pathlib import Path

_SEPARATOR = "/"


def host_name() -> str:
    """Return the name of this host, or of this container."""
    return socket.gethostname()


def process_name() -> str:
    """Return what tells this process from all others, by which `has_ended` can look for it."""
    return _SEPARATOR.join((*_world(), str(os.getpid()), _started_at(os.getpid()) or ""))


def has_ended(host: str, process: str, *, restarted: bool) -> bool:
    """Return whether it is certain that a process has ended; False for one that cannot be seen.

    `restarted` is whether processes of this host in another world of process numbers have ended
    too: a container that begins anew keeps its name, and gets a new one of those.
    """
    if host != host_name():
        return False
    boot, numbers, pid, started_at = process.split(_SEPARATOR)
    if (boot, numbers) != _world():
        return boot != _world()[0] or restarted
    return bool(started_at) and _started_at(int(pid)) != started_at


def _world() -> tuple[str, str]:
    """Return the boot, and the namespace in which process numbers mean something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        numbers = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        return "", ""
    return boot, numbers


def _started_at(pid: int) -> str | None:
    """Return when a process started, in the kernel's own count; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    # A zombie holds nothing any more.
    return None if state == "Z" else fields[18]
