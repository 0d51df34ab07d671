"""Structured logs: one JSON object a line, or coloured text for a developer's terminal.

A line's `each`, a list of fields, makes a line of each of them: what a batch has to say costs a
tenth of as many calls.
"""

import hashlib
import logging
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor

from shared.domain.errors import FencedError, PermanentError, TransientError
from shared.observability.log_writer import LogWriter
from shared.settings import ObservabilitySettings

# Libraries that log each request at INFO, addresses and all.
NOISY = ("httpx", "httpcore", "groq", "asyncio")

# An error may quote what somebody put into a stream.
ERROR_LENGTH = 2_000

EACH = "each"

# A warning of one kind is written so often; of so many kinds it is remembered when it last was.
REPEATED_EVERY = timedelta(minutes=1)
MOST_KINDS = 200
# What makes warnings of one name different kinds.
_KIND = ("error", "reason", "stream", "setting", "source", "problem")
# These say what became of one event, or of one outage from its beginning to its end.
_NEVER_REPEATED = ("event.", "summary.", "outage.")


def configure_logging(settings: ObservabilitySettings, *, service: str, instance: str = "") -> None:
    """Send structlog's and the standard library's logs to standard output in one format."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    as_json = settings.log_format == "json"
    beginning: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _naming(service, instance),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    ending: Sequence[Processor] = [_place_of_error, _to_json] if as_json else [_console()]
    chosen: list[Processor] = [] if settings.log_sample == 1 else [_sampling(settings.log_sample)]
    structlog.configure(
        processors=[*beginning[:1], *chosen, Repeats(), *beginning[1:], *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Not by way of the standard library: that takes several times as long.
        logger_factory=_one(LogWriter(sys.stdout.buffer))
        if as_json
        else structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    _format_standard_library(level, beginning, [*ending, _to_text] if as_json else ending)


def _one(writer: LogWriter) -> Callable[..., LogWriter]:
    """Return what gives all loggers the same writer."""
    return lambda *_: writer


def describe_error(error: BaseException) -> str:
    """Return an error for the log: our own with their message, of others only the type.

    What a library's error says may be personal data.
    """
    if isinstance(error, PermanentError | TransientError):
        return f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
    return type(error).__name__


def error_fields(error: BaseException) -> dict[str, object]:
    """Return the fields of a log line about an error: its place too, unless it is foreseen."""
    is_expected = isinstance(error, PermanentError | TransientError | FencedError | TimeoutError)
    return {"error": describe_error(error), "exc_info": None if is_expected else error}


def frames(error: BaseException | None) -> list[str]:
    """Return the error's type and its places as `file:line function`, cause by cause."""
    found: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        found.append(type(error).__name__)
        found += [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        error = error.__cause__ or error.__context__
    return found


def _format_standard_library(
    level: int, beginning: Sequence[Processor], ending: Sequence[Processor]
) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=beginning,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def in_sample(key: str, *, share: float) -> bool:
    """Return whether a key belongs to a share of all keys: every process says the same."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * (1 << 64)


def _sampling(share: float) -> Processor:
    """Return what drops all lines about what a correlation id connects, or none of them.

    Warnings and errors are always written.
    """

    def is_chosen(fields: Mapping[str, Any]) -> bool:
        key = fields.get("correlation_id") or fields.get("request_id")
        return key is None or in_sample(str(key), share=share)

    def sample(_logger: object, method: str, event: EventDict) -> EventDict:
        if method not in {"info", "debug"}:
            return event
        rows = event.get(EACH)
        if rows is None:
            if not is_chosen(event):
                raise structlog.DropEvent
            return event
        event[EACH] = [row for row in rows if is_chosen(row)]
        if not event[EACH]:
            raise structlog.DropEvent
        return event

    return sample


@dataclass(slots=True)
class Repeats:
    """Lets a warning of one kind pass once a minute, with how many were `suppressed` since."""

    clock: Callable[[], float] = time.monotonic
    kinds: OrderedDict[tuple[str, ...], list[float]] = field(
        default_factory=OrderedDict[tuple[str, ...], list[float]]
    )

    def __call__(self, _logger: object, method: str, event: EventDict) -> EventDict:
        """Return the line, or drop it."""
        if method != "warning" or event["event"].startswith(_NEVER_REPEATED):
            return event
        # Of an error its class: what it says may be another thing each time.
        kind = (event["event"], *(str(event.get(name)).partition(":")[0] for name in _KIND))
        now = self.clock()
        written_at, suppressed = self.kinds.get(kind, (-REPEATED_EVERY.total_seconds() + now, 0))
        if now - written_at < REPEATED_EVERY.total_seconds():
            self.kinds[kind] = [written_at, suppressed + 1]
            raise structlog.DropEvent
        self.kinds[kind] = [now, 0]
        self.kinds.move_to_end(kind)
        if len(self.kinds) > MOST_KINDS:
            self.kinds.popitem(last=False)
        if suppressed:
            event["suppressed"] = int(suppressed)
        return event


def _console() -> Processor:
    # Not the default's tracebacks: they show the values of variables.
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(),
        exception_formatter=structlog.dev.plain_traceback,
        timestamp_key="time",
    )

    def lines(logger: object, method: str, event: EventDict) -> str:
        return "\n".join(str(render(logger, method, one)) for one in _lines(event))

    return lines


def _place_of_error(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Log where an error happened instead of its traceback, which ends with its message."""
    match event.pop("exc_info", None):
        case BaseException() as error:
            event["traceback"] = frames(error)
        case (_, BaseException() as error, _):
            event["traceback"] = frames(error)
        case True:
            event["traceback"] = frames(sys.exception())
        case _:
            pass
    return event


def _naming(service: str, instance: str) -> Processor:
    def name(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        event["instance"] = instance
        return event

    return name


def _to_text(_logger: object, _method: str, line: EventDict) -> str:
    return cast("bytes", line).decode()  # what the renderer before it made of the event


def _to_json(_logger: object, _method: str, event: EventDict) -> bytes:
    return b"\n".join(orjson.dumps(one, default=str) for one in _lines(event))


def _lines(event: EventDict) -> Sequence[EventDict]:
    rows = event.pop(EACH, None)
    return [event] if rows is None else [{**event, **row} for row in rows]
