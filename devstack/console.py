"""What the terminal shows: one log stream for all processes, and a table when all is ready."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from io import StringIO
from itertools import cycle
from typing import Any, TextIO
from urllib.parse import urlsplit

import orjson
import rich.console
from rich.table import Table

from devstack.environment import API_KEY_FILE, TARGETS_FILE, Groq, Plan, StandIns
from shared.connection_strings import split_url

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
NOT_AS_FIELD = frozenset(
    {"time", "level", "event", "service", "instance", "logger", "exception", "stack"}
)

WIDTH = 100
ACCOUNT = '{"email": "ada@example.com", "password": "analytical engine"}'
Row = tuple[str, str, str]


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
    parts = [clock(entry.get("time")), f"{level:<7}", str(entry["event"]), *fields]
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


def clock(time: object) -> str:
    """The time of day where the reader is."""
    if not isinstance(time, str):
        return ""
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return time


def banner(
    plan: Plan,
    stand_ins: StandIns,
    *,
    title: str,
    metrics: Sequence[tuple[str, int]] = (),
    is_coloured: bool,
) -> str:
    """`metrics` are the services, and the ports where they serve these."""
    table = Table(show_header=False)
    for row in rows(plan, stand_ins):
        table.add_row(*row)
    text = StringIO()
    screen = rich.console.Console(
        file=text, width=WIDTH, force_terminal=is_coloured, no_color=not is_coloured
    )
    screen.print(table)
    return f"\n{title}\n{text.getvalue()}\n{hints(plan, metrics)}\n"


def rows(plan: Plan, stand_ins: StandIns) -> Iterator[Row]:
    given = plan.given
    yield "Console", f"http://localhost:{plan.port}/console", "sign up there, and work"
    yield "API", f"http://localhost:{plan.port}", copies(plan)
    yield "Documentation", f"http://localhost:{plan.port}/docs", "all routes, to try them"
    yield "Operators' key", *key_place(plan)
    yield (
        "PostgreSQL",
        address(stand_ins.postgres or given["SUPABASE_CONNECTION_STRING"]),
        "yours" if plan.has_postgres else f"embedded, data in {plan.data}",
    )
    yield (
        "Redis",
        address(stand_ins.redis or given.get("REDIS_URL") or redis_address(plan)),
        "yours" if plan.has_redis else "embedded Valkey",
    )
    yield (
        "Supabase Auth",
        address(stand_ins.supabase_uri or given["SUPABASE_URI"]),
        "yours" if plan.has_supabase_auth else "stand-in: set SUPABASE_URI and SUPABASE_KEY",
    )
    yield (
        "Random User",
        address(stand_ins.randomuser or given["RANDOMUSER_URL"]),
        "yours" if plan.has_randomuser else "stand-in: set RANDOMUSER_URL",
    )
    yield groq_row(plan, stand_ins)


def groq_row(plan: Plan, stand_ins: StandIns) -> Row:
    match plan.groq:
        case Groq.REAL:
            return "Groq", address(plan.given.get("GROQ_BASE_URL", "https://api.groq.com")), "yours"
        case Groq.STAND_IN:
            return "Groq", address(stand_ins.groq or ""), "stand-in: unset GROQ"
        case Groq.OFFLINE:
            return "Groq", "-", "offline rules write the summaries: set GROQ_API_KEY"


def copies(plan: Plan) -> str:
    return f"{plan.api_workers} api, {plan.syncers} syncer, {plan.summarizers} summarizer"


def redis_address(plan: Plan) -> str:
    return f"redis://{plan.given['REDIS_HOST']}:{plan.given.get('REDIS_PORT', '6379')}"


def address(url: str) -> str:
    """Hosts and ports alone: user names, passwords and keys stay off the terminal."""
    try:
        hosts = split_url(url).netloc.rpartition("@")[2].split(",")
        parts = [urlsplit(f"//{host}") for host in hosts]
        named = [(one.hostname or "?", one.port) for one in parts]
    except ValueError:  # a password that should have been percent-encoded, for instance
        return "?"
    return ", ".join(f"{host}:{port}" if port else host for host, port in named)


def hints(plan: Plan, metrics: Sequence[tuple[str, int]]) -> str:
    return "\n".join(
        (
            "Try it in a second terminal: sign up, then log in",
            *(curl(plan, action) for action in ("signup", "login")),
            *metrics_hint(plan, metrics),
            "Ctrl-C stops everything and keeps the data. The log of all services follows.",
        )
    )


def metrics_hint(plan: Plan, metrics: Sequence[tuple[str, int]]) -> Iterator[str]:
    """One line, however many there are: the file has all."""
    if metrics:
        # Of several copies the first.
        first = dict(reversed(metrics))
        ports = ", ".join(f"{name} {first[name]}" for name in sorted(first))
        yield f"Metrics at /metrics of 127.0.0.1: {ports}; all of them: {plan.data / TARGETS_FILE}"


def key_place(plan: Plan) -> tuple[str, str]:
    place = "yours: API_KEY" if "API_KEY" in plan.given else str(plan.data / API_KEY_FILE)
    return place, "for /admin, in the header X-API-Key"


def curl(plan: Plan, action: str) -> str:
    return (
        f"  curl http://localhost:{plan.port}/authentication/{action} "
        f"-H 'Content-Type: application/json' -d '{ACCOUNT}'"
    )
