"""What becomes of a log line: which are written, and with what."""

import io
import json
import logging
from collections.abc import Generator
from typing import Any
from uuid import uuid4

import pytest
import structlog

from shared.observability.logging import (
    MOST_KINDS,
    REPEATED_EVERY,
    Repeats,
    configure_logging,
    in_sample,
)
from shared.settings import ObservabilitySettings


@pytest.fixture
def output() -> Generator[io.BytesIO]:
    """Yield what stands for standard output, and leave logging as it was."""
    before, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    yield io.BytesIO()
    structlog.configure(**before)
    logging.basicConfig(handlers=handlers, force=True)


def lines_of(output: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def configured(output: io.BytesIO, **settings: Any) -> Any:
    configure_logging(ObservabilitySettings(**settings), service="syncer", instance="syncer:a:1")
    structlog.configure(logger_factory=structlog.BytesLoggerFactory(output))
    return structlog.get_logger()


def test_a_batch_is_written_in_one_go_and_as_a_line_each(output: io.BytesIO) -> None:
    log = configured(output)
    ids = [uuid4() for _ in range(3)]
    with structlog.contextvars.bound_contextvars(batch=7):
        log.info("event.applied", each=[{"event_id": one} for one in ids], ms=3)
    lines = lines_of(output)
    assert [line["event_id"] for line in lines] == list(map(str, ids))
    for line in lines:
        assert line.keys() == {
            *("time", "level", "service", "instance", "event"),
            *("event_id", "ms", "batch"),
        }
        assert (line["level"], line["service"], line["instance"]) == (
            *("info", "syncer"),
            "syncer:a:1",
        )


def test_people_get_a_line_each_too(output: io.BytesIO) -> None:
    configured(output, log_format="console")
    text = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(text))
    structlog.get_logger().info("event.applied", each=[{"entry": "1"}, {"entry": "2"}])
    assert [line.count("event.applied") for line in text.getvalue().splitlines()] == [1, 1]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_keys_is_in_a_sample(share: float) -> None:
    keys = [f"a1b2c3d4e5f6-{number:x}" for number in range(4_000)]
    chosen = [key for key in keys if in_sample(key, share=share)]
    assert abs(len(chosen) / len(keys) - share) < 0.03
    assert set(chosen) <= {key for key in keys if in_sample(key, share=min(1, share * 2))}


def test_of_one_request_all_lines_are_written_or_none(output: io.BytesIO) -> None:
    log = configured(output, log_sample=0.5)
    requests = [f"request-{number}" for number in range(40)]
    for request_id in requests:
        log.info("request.ended", request_id=request_id)
        log.info("event.applied", correlation_id=request_id)
    log.info("event.accepted", each=[{"correlation_id": request_id} for request_id in requests])
    log.info("partition.taken")
    counts = dict.fromkeys(requests, 0)
    for line in lines_of(output):
        if line["event"] != "partition.taken":
            counts[line.get("correlation_id") or line["request_id"]] += 1
    assert set(counts.values()) == {0, 3}
    assert counts == {one: 3 if in_sample(one, share=0.5) else 0 for one in requests}


def test_failures_are_written_whatever_the_sample(output: io.BytesIO) -> None:
    log = configured(output, log_sample=0)
    log.info("event.applied", correlation_id="one")
    log.info("event.applied", each=[{"correlation_id": "one"}, {"correlation_id": "two"}])
    log.warning("event.held", correlation_id="one")
    log.warning("event.held", each=[{"correlation_id": "one"}])
    log.error("event.parked", correlation_id="one")
    assert [line["event"] for line in lines_of(output)] == [
        *("event.held", "event.held", "event.parked"),
    ]


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def passed(repeats: Repeats, method: str, **event: Any) -> dict[str, Any] | None:
    try:
        return dict(repeats(None, method, event))
    except structlog.DropEvent:
        return None


@pytest.mark.parametrize(
    "line",
    [
        {"event": "cache.unavailable", "error": "UnavailableError: no answer"},
        {"event": "source.retried", "source": "randomuser", "error": "TransientError: 503"},
        {"event": "tick.missed", "tick": "2026-11-26T00:00"},
    ],
)
def test_a_warning_that_repeats_is_written_once_a_minute(line: dict[str, Any]) -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert passed(repeats, "warning", **line) == line
    assert [passed(repeats, "warning", **line) for _ in range(3)] == [None] * 3
    clock.now += REPEATED_EVERY.total_seconds()
    assert passed(repeats, "warning", **line) == line | {"suppressed": 3}
    clock.now += REPEATED_EVERY.total_seconds()
    assert passed(repeats, "warning", **line) == line


@pytest.mark.parametrize(
    ("method", "one", "other"),
    [
        ("warning", {"event": "a", "error": "TransientError: 1"}, {"event": "a", "error": "X: 1"}),
        ("warning", {"event": "a", "stream": "one"}, {"event": "a", "stream": "other"}),
        ("warning", {"event": "a"}, {"event": "b"}),
        ("warning", {"event": "event.held", "n": 1}, {"event": "event.held", "n": 2}),
        ("warning", {"event": "summary.failed"}, {"event": "summary.failed"}),
        ("error", {"event": "http.defect"}, {"event": "http.defect"}),
        ("info", {"event": "leads.synced"}, {"event": "leads.synced"}),
    ],
)
def test_other_lines_are_no_repeats(
    method: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    repeats = Repeats(Clock())
    assert passed(repeats, method, **one) == one
    assert passed(repeats, method, **other) == other


def test_a_process_remembers_a_bounded_number_of_kinds() -> None:
    repeats = Repeats(Clock())
    for number in range(MOST_KINDS * 3):
        passed(repeats, "warning", event=f"kind-{number}")
    assert len(repeats.kinds) == MOST_KINDS
    assert passed(repeats, "warning", event="kind-0") is not None  # forgotten
    assert passed(repeats, "warning", event=f"kind-{MOST_KINDS * 3 - 1}") is None
