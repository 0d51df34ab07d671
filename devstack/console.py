"""One log stream on the terminal for all processes: a name in its colour, then the line."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import cycle
from typing import Any, TextIO

import orjson

NAME_WIDTH = 13
RESET = "\x1b[0m"
DIM = "\x1b[2m"
NAME_COLOURS = ("\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[32m", "\x1b[33m", "\x1b[96m", "\x1b[95m")
LEVEL_COLOURS = {
    "debug": DIM,
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
# The name in front says which service it is; a traceback goes below its line.
NOT_AS_FIELD = frozenset({"timestamp", "level", "event", "service", "logger", "exception", "stack"})


class Console:
    """Writes whole lines and never fails: a closed terminal must not stop the services."""

    def __init__(self, stream: TextIO = sys.stdout, *, is_coloured: bool | None = None) -> None:
        self._stream = stream
        self.is_coloured = wants_colour(stream) if is_coloured is None else is_coloured
        self._colours = cycle(NAME_COLOURS)

    def sink(self, name: str) -> Callable[[str], None]:
        """Returns what takes the lines of one process."""
        prefix = self._prefix(name)

        def show(line: str) -> None:
            text = readable(line, is_coloured=self.is_coloured)
            self._write("\n".join(f"{prefix} {part}".rstrip() for part in text.split("\n")))

        return show

    def say(self, text: str) -> None:
        """Writes a message of the stack's own."""
        self._write(text)

    def _prefix(self, name: str) -> str:
        padded = f"{name:<{NAME_WIDTH}}"
        if not self.is_coloured:
            return f"{padded} |"
        return f"{next(self._colours)}{padded} |{RESET}"

    def _write(self, text: str) -> None:
        with suppress(BrokenPipeError):
            self._stream.write(text + "\n")
            self._stream.flush()


def wants_colour(stream: TextIO) -> bool:
    """See https://no-color.org."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def readable(line: str, *, is_coloured: bool = False) -> str:
    """Turns a structured log line into `time level event key=value`; others stay as they are."""
    entry = parse(line)
    if entry is None:
        return line
    level = str(entry.get("level", "info"))
    fields = [f"{key}={shown(value)}" for key, value in entry.items() if key not in NOT_AS_FIELD]
    parts = [clock(entry.get("timestamp")), f"{level:<7}", str(entry["event"]), *fields]
    if is_coloured:
        parts[0] = f"{DIM}{parts[0]}{RESET}"
        parts[1] = f"{LEVEL_COLOURS.get(level, '')}{parts[1]}{RESET}"
    below = [str(entry[key]) for key in ("exception", "stack") if entry.get(key)]
    return "\n".join([" ".join(part for part in parts if part), *below])


def parse(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        entry: dict[str, Any] = orjson.loads(line)  # an object, from its first character on
    except orjson.JSONDecodeError:
        return None
    return entry if "event" in entry else None


def shown(value: object) -> str:
    """Strings bare when that is unambiguous, as in `source=sync`, everything else as JSON."""
    if isinstance(value, str) and value and not set(value) & set(' "='):
        return value
    return orjson.dumps(value).decode()


def clock(timestamp: object) -> str:
    """The time of day where the reader is."""
    if not isinstance(timestamp, str):
        return ""
    try:
        return datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return timestamp
