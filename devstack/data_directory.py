"""The one directory that holds a stack's whole state, and at most one stack at a time."""

import fcntl
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from devstack.errors import CannotRunError
from devstack.secret_files import write_secret

LOCK_FILE = "lock"
STACK_FILE = "stack.env"
CREATED_FOR_ALL_TO_PASS = 0o755


class DirectoryInUseError(CannotRunError):
    """Another stack runs on this directory."""


class NotOurDirectoryError(CannotRunError):
    """Another user started a stack on this directory before."""


@contextmanager
def locked(directory: Path) -> Generator[None]:
    """Holds the directory until left; the kernel lets go of it however the process ends.

    Raises DirectoryInUseError, which names the process that has it.
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
        directory.mkdir(mode=CREATED_FOR_ALL_TO_PASS, parents=True, exist_ok=True)
        return (directory / LOCK_FILE).open("a+")
    except PermissionError as error:
        raise NotOurDirectoryError(
            f"{error.filename} belongs to another user: set DATA_DIR to a directory of yours"
        ) from None


def write_stack_file(directory: Path, environment: Mapping[str, str]) -> Path:
    """Leaves the services' environment for commands that talk to the running stack."""
    path = directory / STACK_FILE
    lines = (f"{name}={quoted(value)}\n" for name, value in sorted(environment.items()))
    write_secret(path, "".join(lines))
    return path


def quoted(value: str) -> str:
    """Quotes as python-dotenv reads it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
