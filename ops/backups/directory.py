"""A directory of backups: one folder for each, and beside them the list of erased leads.

```
leads-20260301T023000.123456Z/   leads.dump (pg_dump -Fc) and manifest.json, once both are whole
erased.ndjson                    a line for each lead ever deleted, added to all the time
```
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from ops.backups import BackupError
from ops.storage.schema_copy import Erasure, SchemaFacts

DUMP, MANIFEST, ERASED = "leads.dump", "manifest.json", "erased.ndjson"
_NAME = re.compile(r"leads-\d{8}T\d{6}\.\d{6}Z")
_NAME_FORMAT = "leads-%Y%m%dT%H%M%S.%fZ"
_LOCK = ".lock"
OWNER_ONLY = 0o700
HASHED_AT_ONCE = 1 << 20


class Manifest(BaseModel):
    """What a backup holds: by it a restore is checked.

    `made_at` is the time of the snapshot, `size` and `sha256` are the dump's.
    """

    model_config = ConfigDict(frozen=True)

    made_at: AwareDatetime
    seconds: float
    size: int
    sha256: str
    facts: SchemaFacts


class Backup:
    """One complete backup."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dump = path / DUMP
        try:
            self.manifest = Manifest.model_validate_json((path / MANIFEST).read_bytes())
        except OSError as error:
            raise BackupError(f"{path} is no backup: {MANIFEST}: {error.strerror}") from error
        except ValidationError as error:
            raise BackupError(f"{path / MANIFEST} is none of this version") from error

    def check_dump(self) -> None:
        """Raise `BackupError` unless the dump is what was written."""
        try:
            is_same = checksum(self.dump) == self.manifest.sha256
        except OSError as error:
            raise BackupError(f"{self.dump} cannot be read: {error.strerror}") from error
        if not is_same:
            raise BackupError(f"{self.dump} has changed since it was made: take another backup.")


class BackupDirectory:
    """Where backups are kept. Raises `BackupError` for what cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.erased = path / ERASED

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Make the directory, and keep others from writing to it."""
        with self._failures_said(), contextlib.ExitStack() as stack:
            self.path.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BackupError(f"Another backup to {self.path} is under way") from error
            yield

    @contextlib.contextmanager
    def _failures_said(self) -> Generator[None]:
        """Say what goes wrong with the disk: it is full, or somebody else's."""
        try:
            yield
        except OSError as error:
            place = error.filename or self.path
            raise BackupError(f"{place}: {error.strerror or error}") from error

    def backups(self) -> list[Path]:
        """Return all complete ones, oldest first."""
        with self._failures_said():
            if not self.path.is_dir():
                return []
            return sorted(path for path in self.path.iterdir() if _NAME.fullmatch(path.name))

    def listed_at(self) -> datetime | None:
        """Return when the list of erased leads was brought up to date; None where there is none."""
        with self._failures_said():
            if not self.erased.exists():
                return None
            return datetime.fromtimestamp(self.erased.stat().st_mtime, UTC)

    def newest(self) -> Backup | None:
        """Return the last one that was made."""
        made = self.backups()
        return Backup(made[-1]) if made else None

    @contextlib.contextmanager
    def draft(self) -> Generator[Path]:
        """Lend a folder for a backup that is being made; what does not become one goes."""
        path = self.path / f".draft-{os.getpid()}"
        for left in self.path.glob(".draft-*"):
            shutil.rmtree(left)
        path.mkdir(mode=OWNER_ONLY)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def complete(self, draft: Path, manifest: Manifest) -> Backup:
        """Make a backup of a draft, in one step and only once it is on the disk."""
        target = self.path / manifest.made_at.strftime(_NAME_FORMAT)
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        for path in (draft / DUMP, draft / MANIFEST):
            path.chmod(0o600)
            _sync(path)
        _sync(draft)
        draft.rename(target)
        _sync(self.path)
        return Backup(target)

    def prune(self, *, keep: int) -> list[Path]:
        """Remove all but the newest ones; returns what went."""
        old = self.backups()[:-keep]
        for path in old:
            shutil.rmtree(path)
        return old

    def erasures(self) -> Iterator[Erasure]:
        """Yield what is in the list of erased leads."""
        return read_erasures(self.erased) if self.erased.exists() else iter(())

    def add_erasures(self, erasures: Sequence[Erasure]) -> None:
        """Add lines to the list of erased leads; says so by its time also when there are none."""
        descriptor = os.open(self.erased, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            # What a crash has left of a line must not become the beginning of the next one.
            file.truncate(file.read().rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.writelines(f"{one.model_dump_json()}\n".encode() for one in erasures)
            file.flush()
            os.fsync(file.fileno())
        os.utime(self.erased)


def read_erasures(path: Path) -> Iterator[Erasure]:
    """Yield the erased leads in a list; a last line that was cut off was never one."""
    try:
        with path.open() as file:
            for number, line in enumerate(file, start=1):
                if line.endswith("\n"):
                    yield _erasure(path, number, line)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from error


def _erasure(path: Path, number: int, line: str) -> Erasure:
    try:
        return Erasure.model_validate_json(line)
    except ValidationError as error:
        raise BackupError(f"{path}, line {number}, is no erased lead") from error


def checksum(path: Path) -> str:
    """Return a file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(HASHED_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()


def made_at_of(path: Path) -> datetime:
    """Return the time in a backup's name."""
    return datetime.strptime(f"{path.name}+0000", f"{_NAME_FORMAT}%z")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
