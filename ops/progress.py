"""A progress bar on standard error, for people at a terminal."""

import contextlib
from collections.abc import Generator

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ops.output import console


class Bar:
    """One task of a progress display; without a display it shows nothing."""

    def __init__(self, display: Progress | None, title: str, total: int | None) -> None:
        self._display = display
        self._task = None if display is None else display.add_task(title, total=total, note="")

    def show(self, completed: int, *, note: str = "") -> None:
        """Show how much is done."""
        if self._display is not None and self._task is not None:
            self._display.update(self._task, completed=completed, note=note)


@contextlib.contextmanager
def progress_bar(title: str, *, total: int | None, quiet: bool) -> Generator[Bar]:
    """Show a bar for the length of the block, if there is a terminal to show it on."""
    target = console(stderr=True)
    if quiet or not target.is_terminal:
        yield Bar(None, title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=target, transient=True) as display:
        yield Bar(display, title, total)
