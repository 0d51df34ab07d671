"""Metrics are named by Prometheus' conventions and few labels, on a page that is current."""

import re
from collections.abc import Callable, Mapping

import pytest

from shared.observability.metrics import Declaration, Kind
from tests.support.metrics_page import PAGE, PROCESSES, declarations, exporters, metrics_page
from tests.support.repository import ProductModule

# OpenTelemetry's stable names stay as they are; all else is the system's own.
PREFIXES = ("leads_", "db_client_", "http_client_", "http_server_")
# A label's values are few, and known beforehand: no ids, no texts, no consumers.
LABELS = frozenset(
    {
        *("answer", "budget", "check", "db_operation_name", "db_system_name", "dependency", "end"),
        *("error_type", "group", "http_request_method", "http_response_status_code", "http_route"),
        *("kind", "model", "partition", "pool", "python", "reason", "result", "server"),
        *("server_address", "service", "severity", "source", "state", "stream", "task", "type"),
        *("version", "way", "why"),
    }
)
# Prometheus names what it scrapes by these: ours would become `exported_job`.
TAKEN = frozenset({"job", "instance", "le", "quantile"})
WRONG_UNIT = re.compile(r"_(ms|millis\w*|micros\w*|minutes?|hours?|days?|kb|mb|percent\w*)(_|$)")
RESERVED = ("_count", "_sum", "_bucket", "_created")
MEASURES = ("_seconds", "_bytes", "_events")

# What promtool would see, and more.
CONVENTIONS: dict[str, Callable[[Declaration], object]] = {
    "is in snake case": lambda one: re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", one.name),
    "has the system's prefix": lambda one: one.name.startswith(PREFIXES),
    "_total is for counters": lambda one: (one.kind == "counter") == one.name.endswith("_total"),
    "is in seconds, bytes or a ratio": lambda one: not WRONG_UNIT.search(one.name),
    "does not end as a histogram's series": lambda one: not one.name.endswith(RESERVED),
    "a histogram's unit": lambda one: one.kind != "histogram" or one.name.endswith(MEASURES),
    "its labels are known": lambda one: set(one.labels) <= LABELS,
    "is described in a sentence": lambda one: re.fullmatch(r".{10,}\.", one.description),
}


def faults(one: Declaration) -> list[str]:
    """Return the conventions that a metric breaks."""
    return [text for text, holds in CONVENTIONS.items() if not holds(one)]


@pytest.fixture(scope="module")
def declared(modules: list[ProductModule]) -> list[Declaration]:
    found = declarations(modules)
    assert {"leads_backlog_events", "leads_build_info", "leads_events_total"} <= {
        one.name for one in found
    }
    return found


def test_names_and_labels_follow_the_conventions(declared: list[Declaration]) -> None:
    assert {one.name: found for one in declared if (found := faults(one))} == {}
    assert not LABELS & TAKEN
    assert {label for one in declared for label in one.labels} <= LABELS


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("leads_eventsApplied_total", "counter", ()),
        ("leads_events", "counter", ()),
        ("leads_open_total", "gauge", ()),
        ("leads_wait_ms", "histogram", ()),
        ("leads_wait", "histogram", ()),
        ("leads_batch_count", "gauge", ()),
        ("events_total", "counter", ()),
        ("leads_events_total", "counter", ("lead_id",)),
        ("leads_runs_total", "counter", ("job",)),
    ],
)
def test_the_conventions_refuse(name: str, kind: Kind, labels: tuple[str, ...]) -> None:
    one = Declaration(name, kind, "What it says.", labels, "x")
    assert faults(one)


@pytest.fixture(scope="module")
def by(modules: list[ProductModule]) -> Mapping[str, str]:
    return exporters(modules)


def test_the_page_is_current(declared: list[Declaration], by: Mapping[str, str]) -> None:
    assert PAGE.read_text() == metrics_page(declared, by), "run `make docs`"


def test_every_metric_is_exported_by_some_process(
    modules: list[ProductModule], declared: list[Declaration], by: Mapping[str, str]
) -> None:
    assert set(PROCESSES.values()) <= {module.name for module in modules}
    assert [one.name for one in declared if not by[one.module]] == []
    shown = {one.name: by[one.module] for one in declared}
    assert shown["leads_build_info"] == "all"
    assert shown["leads_backlog_events"] == "exporter"
    assert shown["leads_events_total"] == "syncer, summarizer"
    assert shown["leads_followers"] == "api"
