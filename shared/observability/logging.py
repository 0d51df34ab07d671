"""Structured logs: one JSON object a line, or coloured text for a developer's terminal."""

import logging
import sys
import traceback
from collections.abc import Sequence
from typing import cast

import orjson
import structlog
from structlog.typing import EventDict, Processor

from shared.domain.errors import FencedError, PermanentError, TransientError
from shared.settings import ObservabilitySettings

# Libraries that log each request at INFO, addresses and all.
NOISY = ("httpx", "httpcore", "groq", "asyncio")

# An error may quote what somebody put into a stream.
ERROR_LENGTH = 2_000


def configure_logging(settings: ObservabilitySettings, *, service: str) -> None:
    """Send structlog's and the standard library's logs to standard output in one format."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    as_json = settings.log_format == "json"
    beginning: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _naming(service),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending: Sequence[Processor] = (
        [_place_of_error, structlog.processors.JSONRenderer(_to_json)] if as_json else [_console()]
    )
    structlog.configure(
        processors=[*beginning, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Not by way of the standard library: that takes several times as long.
        logger_factory=structlog.BytesLoggerFactory()
        if as_json
        else structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    _format_standard_library(level, beginning, [*ending, _to_text] if as_json else ending)


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


def _console() -> Processor:
    # Not the default's tracebacks: they show the values of variables.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


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


def _naming(service: str) -> Processor:
    def name(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return name


def _to_text(_logger: object, _method: str, line: EventDict) -> str:
    return cast("bytes", line).decode()  # what the renderer before it made of the event


def _to_json(event: EventDict, **_: object) -> bytes:
    return orjson.dumps(event, default=str)
