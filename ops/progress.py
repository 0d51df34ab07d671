"""A progress bar on standard error, for people at a terminal."""

import contextlib
from collections.abc import Generator
from typing import Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ops.output import console


class Bar(Protocol):
    """Something to show progress on."""

    def show(self, completed: int, *, note: str = "") -> None:
        """Show how much is done."""
        ...


class Unseen:
    """Shows nothing."""

    def show(self, completed: int, *, note: str = "") -> None:
        """Do nothing."""


class RichBar:
    """One task of a rich progress display."""

    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")

    def show(self, completed: int, *, note: str = "") -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=completed, note=note)


@contextlib.contextmanager
def progress_bar(title: str, *, total: int | None, quiet: bool) -> Generator[Bar]:
    """Show a bar for the length of the block, if there is a terminal to show it on."""
    target = console(stderr=True)
    if quiet or not target.is_terminal:
        yield Unseen()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=target, transient=True) as progress:
        yield RichBar(progress, title, total)
