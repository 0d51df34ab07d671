"""The files that commands write and read; `-` is standard output or input."""

import contextlib
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import click

STANDARD = "-"


class FilePath(click.Path):
    """A file's path, checked before anything is asked or begun."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Return the path."""
        path = os.fspath(value)
        if not path or "\0" in path:
            self.fail(f"{path!r} is no path", param, ctx)
        return os.fsdecode(super().convert(path, param, ctx))


def is_same_file(one: str, other: str) -> bool:
    """Return whether both are one file, by whatever names. Standard input and output are none."""
    if STANDARD in {one, other}:
        return False
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them is not there
        return False


@contextlib.contextmanager
def open_to_write(path: str) -> Generator[BinaryIO]:
    """Open a file to write, readable by its owner alone; it appears once it is complete."""
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def open_to_read(path: str) -> Generator[BinaryIO]:
    """Open a file to read."""
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield file
