"""What a process counts and measures: each metric is declared beside what it is about.

All are exported together. Names follow Prometheus' conventions, and OpenTelemetry's where those are
stable. `docs/metrics.md` is made from the declarations.
"""

import asyncio
import contextlib
import itertools
import math
import platform
import sys
import time
import tomllib
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

# They would be one more series for each counter and histogram, which nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call]  # its own

REGISTRY = CollectorRegistry()

# Upper bounds, from a read of the cache to the deadline of a request.
SECONDS = (0.005, 0.025, 0.05, 0.1, 0.5, 2, 10)

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Declaration:
    """A metric by the name of its series (without `_bucket`, `_sum`, `_count`), and its module."""

    name: str
    kind: Kind
    description: str
    labels: tuple[str, ...]
    module: str


DECLARED: dict[str, Declaration] = {}


class Series:
    """The values of a histogram with one set of labels: a count for each bucket, and their sum."""

    __slots__ = ("_bounds", "_cells")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        # The last but one is of values above all bounds.
        self._cells = [0.0] * (len(bounds) + 2)

    def observe(self, value: float) -> None:
        """Count a value."""
        cells = self._cells
        cells[bisect_left(self._bounds, value)] += 1
        cells[-1] += value

    @contextlib.contextmanager
    def time(self) -> Generator[None]:
        """Count the seconds that the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - started)

    def sample(self) -> tuple[Iterator[float], float]:
        """Return how many values are at or below each bound and infinity, and their sum."""
        *counts, total = self._cells
        return itertools.accumulate(counts), total


class Histogram(Collector):
    """Distributions of values by labels, for the event loop's thread alone.

    In plain lists: the library's own takes several times as long for each value, and a read from
    the cache counts several.
    """

    def __init__(
        self, name: str, description: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name, self._description = name, description
        self._labels, self._bounds = labels, bounds
        self._series: dict[tuple[str, ...], Series] = {}

    def labels(self, *values: str) -> Series:
        """Return the series with these values of the labels."""
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has the labels {self._labels}")
            series = self._series[values] = Series(self._bounds)
        return series

    def collect(self) -> Iterator[Metric]:
        """Yield all series."""
        family = HistogramMetricFamily(self._name, self._description, labels=self._labels)
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        for values, series in list(self._series.items()):
            counts, total = series.sample()
            family.add_metric(values, list(zip(bounds, counts, strict=True)), total)
        yield family


def counter(
    name: str, description: str, labels: Sequence[str] = (), *, start: Iterable[Sequence[str]] = ()
) -> Counter:
    """Declare a counter, by a name that ends in `_total`.

    `start` has values of the labels to begin at 0 with: a rate cannot see the first event of a
    series that comes into being with it.
    """
    metric = Counter(name, description, labels, registry=REGISTRY)
    _begin(metric, start)
    _note(name, "counter", description, labels)
    return metric


def gauge(
    name: str, description: str, labels: Sequence[str] = (), *, start: Iterable[Sequence[str]] = ()
) -> Gauge:
    """Declare a value that rises and falls."""
    metric = Gauge(name, description, labels, registry=REGISTRY)
    _begin(metric, start)
    _note(name, "gauge", description, labels)
    return metric


def histogram(
    name: str,
    description: str,
    labels: Sequence[str] = (),
    *,
    buckets: Sequence[float] = SECONDS,
    start: Iterable[Sequence[str]] = (),
) -> Histogram:
    """Declare a distribution of values, by upper bounds of its buckets."""
    metric = Histogram(name, description, labels, buckets)
    REGISTRY.register(metric)
    _begin(metric, start)
    _note(name, "histogram", description, labels)
    return metric


def family(name: str, kind: Kind, description: str, labels: Sequence[str] = ()) -> Declaration:
    """Declare a metric whose samples a collector of its own brings at each scrape."""
    return _note(name, kind, description, labels)


@contextlib.contextmanager
def exported(collector: Collector) -> Generator[None]:
    """Have a collector asked at each scrape for the length of the block."""
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)


def _begin(metric: Counter | Gauge | Histogram, start: Iterable[Sequence[str]]) -> None:
    for values in start:
        metric.labels(*values)


def _note(name: str, kind: Kind, description: str, labels: Sequence[str]) -> Declaration:
    # As logging finds its caller.
    module = str(sys._getframe(2).f_globals["__name__"])  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    declaration = Declaration(name, kind, description, tuple(labels), module)
    if DECLARED.setdefault(name, declaration) != declaration:
        raise ValueError(f"{name} is declared twice")
    return declaration


DB_SECONDS = histogram(
    "db_client_operation_duration_seconds",
    "Use of PostgreSQL (a transaction, a statement alone) and of Redis (a command or a pipeline), "
    "without the wait for a connection. `error_type` is empty where all went well.",
    ["db_system_name", "db_operation_name", "error_type"],
)
HTTP_CLIENT_SECONDS = histogram(
    "http_client_request_duration_seconds",
    "Requests to other servers: the auth server, the source of leads. The model has its own.",
    ["server_address"],
)

ProcessCollector(registry=REGISTRY)

_BUILD = gauge("leads_build_info", "1, with what this process runs.", ("version", "python"))
_LAG = histogram(
    "leads_event_loop_lag_seconds",
    "How late the event loop is: by so much everything in this process is held up.",
    buckets=(0.005, 0.025, 0.1, 0.5, 2),
).labels()
# From when on what is done every so often is counted: it wakes a process once for all that is due,
# and not all processes of a machine at the same moment.
STARTED = time.monotonic()
# Of a pause of which no more than this part is left: clocks and timers are rounded.
_ALL_BUT_THERE = 0.01
_LOOK_EVERY = timedelta(seconds=1)


def until_next(every: timedelta, *, now: float) -> timedelta:
    """Return how long it is until a clock that shows `now` comes to a multiple of `every`.

    A multiple that is all but there counts as gone.
    """
    seconds = every.total_seconds()
    gone = math.floor(now / seconds + _ALL_BUT_THERE)
    return timedelta(seconds=(gone + 1) * seconds - now)


async def watch_process() -> None:
    """Say what runs, and measure how late the event loop is; never returns."""
    _BUILD.labels(_version(), platform.python_version()).set(1)
    loop = asyncio.get_running_loop()
    while True:
        # When others wake the process too: see `shared.background.repeat`.
        pause = until_next(_LOOK_EVERY, now=loop.time() - STARTED).total_seconds()
        due = loop.time() + pause
        await asyncio.sleep(pause)
        _LAG.observe(max(0.0, loop.time() - due))


def _version() -> str:
    # The services run from their directory and are not installed.
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    return str(project["project"]["version"])
