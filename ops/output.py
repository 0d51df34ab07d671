"""What commands print: tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import orjson

from shared.administration.wording import span

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")

# Where there is no terminal to fit into, nothing is cut.
WIDE = 240


def print_json(value: Any, *, err: bool = False) -> None:
    """Print a value, dataclasses included, as one line; time spans in seconds."""
    # Names of outcomes are keys, too, and are texts with a type of their own.
    click.echo(orjson.dumps(value, default=_fit, option=orjson.OPT_NON_STR_KEYS), err=err)


def console(*, stderr: bool = False) -> "Console":
    """Return a console for tables, or for progress on standard error."""
    from rich.console import Console  # noqa: PLC0415 (not for commands that print none)

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE, highlight=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """Return a table; columns whose name starts with `#` are numbers."""
    from rich.table import Table  # noqa: PLC0415 (not for commands that print none)

    made = Table(box=None, pad_edge=False)
    for column in columns:
        number = column.startswith("#")
        made.add_column(column.removeprefix("#"), justify="right" if number else "left")
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to standard output, or that there is nothing."""
    made = table(columns, rows)
    console().print(made if made.row_count else "None.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask, and end the command unless the answer is yes."""
    if not yes:
        click.confirm(question, abort=True, err=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    # Brackets in data are not rich's markup.
    return str(value).replace("[", "\\[")


def _fit(value: Any) -> Any:
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    return str(value)
