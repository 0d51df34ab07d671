"""The one directory that holds a stack's whole state, and at most one stack at a time."""

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from devstack import CannotRunError
from devstack.environment import STACK_DATA_DIR, STACK_FILE, TARGETS_FILE
from devstack.free_ports import LOOPBACK

LOCK_FILE = "lock"
MEMORY = Path("/dev/shm")  # noqa: S108 (mkdtemp makes the name)
ENOUGH_MEMORY = 4 << 30
EVERYONE_PASSES = 0o755
OWNER_ONLY = 0o600
SECRET_BYTES = 24


class DirectoryInUseError(CannotRunError):
    """Another stack runs on this directory."""


class NotOurDirectoryError(CannotRunError):
    """Another user started a stack on this directory before."""


@contextmanager
def locked(directory: Path) -> Generator[None]:
    """Holds the directory until left; the kernel releases it however the process ends.

    A `DirectoryInUseError` names the process that holds it.
    """
    with open_lock(directory) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DirectoryInUseError(
                f"{directory} is in use by the stack with pid {lock.read().strip()}: "
                "end that one, or run a second with `make run DATA_DIR=... PORT=...`"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def open_lock(directory: Path) -> TextIO:
    try:
        directory.mkdir(mode=EVERYONE_PASSES, parents=True, exist_ok=True)
        return (directory / LOCK_FILE).open("a+")
    except PermissionError as error:
        raise NotOurDirectoryError(
            f"{error.filename} belongs to another user: set DATA_DIR to a directory of yours"
        ) from None


def write_stack_file(directory: Path, environment: Mapping[str, str]) -> Path:
    """Keeps the services' environment, for commands that talk to the running stack."""
    path = directory / STACK_FILE
    marked = {**environment, STACK_DATA_DIR: str(directory)}
    lines = (f"{name}={quoted(value)}\n" for name, value in sorted(marked.items()))
    write_secret(path, "".join(lines))
    return path


def write_targets(directory: Path, targets: Iterable[tuple[str, int]]) -> Path:
    """Keeps where each process serves its metrics, as Prometheus' `file_sd_configs` reads it."""
    path = directory / TARGETS_FILE
    groups = [
        {"targets": [f"{LOOPBACK}:{port}"], "labels": {"job": name}} for name, port in targets
    ]
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(groups, indent=2) + "\n")
    draft.replace(path)
    return path


def quoted(value: str) -> str:
    """Quotes as python-dotenv reads it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def kept_secret(path: Path) -> str:
    """Returns the secret in the file, generated on the first call."""
    if path.exists():
        return path.read_text().strip()
    secret = secrets.token_urlsafe(SECRET_BYTES)
    write_secret(path, secret)
    return secret


def write_secret(path: Path, text: str) -> None:
    """Writes a file that only its owner may read; after a crash it has the old text or the new."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=OWNER_ONLY, exist_ok=False)
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def scratch_directory() -> Generator[Path]:
    """A new directory for a test, removed with all it holds at the end.

    In memory where there is plenty: servers start and end often, and wait for disks most of all.
    Under root PostgreSQL runs as the user nobody, which may not enter pytest's directories.
    """
    path = Path(tempfile.mkdtemp(prefix="leads-test-", dir=_memory()))
    path.chmod(EVERYONE_PASSES)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _memory() -> Path | None:
    """Return a file system in memory with room for a few databases, if there is one."""
    if not os.access(MEMORY, os.R_OK | os.W_OK | os.X_OK):
        return None
    return MEMORY if shutil.disk_usage(MEMORY).free >= ENOUGH_MEMORY else None
