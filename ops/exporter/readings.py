"""What was read last of each source: exported while it is young, gone when it cannot be read."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Protocol, TypeAlias

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.domain.errors import UnavailableError
from shared.observability.metrics import Declaration, family
from shared.observability.outages import Outages

EVERY = timedelta(seconds=15)
# After so long without an answer a source counts as away.
DEADLINE = timedelta(seconds=10)

Labels: TypeAlias = tuple[str, ...]


class Samples(defaultdict[Declaration, dict[Labels, float]]):
    """Values by metric and labels: `samples[METRIC]["a", "b"] = 1`."""

    def __init__(self) -> None:
        super().__init__(dict)


class Source(Protocol):
    """Something that can be read, and fails by itself."""

    @property
    def name(self) -> str:
        """What it is, for operators."""
        ...

    @property
    def every(self) -> timedelta:
        """How often it is read. A reading outlives one try that takes its time, and no second."""
        ...

    async def read(self, samples: Samples) -> None:
        """Add what is read, step by step. Raises when something could not be read."""
        ...


UP = family(
    "leads_exporter_up",
    "gauge",
    "1 when the exporter could read all of a source at its last try, else 0.",
    ("source",),
)
ROUND_SECONDS = family(
    "leads_exporter_round_seconds",
    "gauge",
    "How long it took to read a source.",
    ("source",),
)


class Readings(Collector):
    """The last reading of each source. One that is too old is not exported.

    `deadline` is how long a try may take.
    """

    def __init__(
        self, sources: Sequence[Source], *, outages: Outages, deadline: timedelta = DEADLINE
    ) -> None:
        self._sources = {source.name: source for source in sources}
        self._outages = outages
        self._deadline = deadline
        # Replaced and never changed: `collect` runs in another thread.
        self._latest: dict[str, tuple[float, Samples]] = {}
        self._began = time.monotonic()

    async def keep_reading(self, name: str) -> None:
        """Read a source again and again; never returns, and nothing that happens ends it."""
        every = self._sources[name].every
        while True:
            began = time.monotonic()
            await self.read(name)
            await asyncio.sleep(max(0.0, began + every.total_seconds() - time.monotonic()))

    async def read(self, name: str) -> None:
        """Read a source now. What it could not read is not exported any more."""
        began, samples, is_up = time.monotonic(), Samples(), True
        try:
            await self._read(name, samples)
        except Exception as error:  # noqa: BLE001 (no answer of a server may end the process)
            is_up = False
            self._outages.failed(f"reading {name}", error)
        else:
            self._outages.worked(f"reading {name}")
        now = time.monotonic()
        samples[UP][name,] = is_up
        samples[ROUND_SECONDS][name,] = now - began
        self._latest = {**self._latest, name: (now, samples)}

    async def check(self) -> None:
        """Raise `UnavailableError` when a source has not been tried for long."""
        for name in self._sources:
            tried_at, _ = self._latest.get(name, (self._began, None))
            age = time.monotonic() - tried_at
            if age >= self._kept(name):
                raise UnavailableError(f"{name} has not been read for {age:.0f} s")

    def collect(self) -> Iterator[Metric]:
        """Yield what is young enough."""
        now = time.monotonic()
        joined = Samples()
        joined[UP] = {(name,): 0 for name in self._sources}
        for name, (read_at, samples) in self._latest.items():
            if now - read_at < self._kept(name):
                for declaration, values in samples.items():
                    joined[declaration].update(values)
        return _families(joined)

    def _kept(self, name: str) -> float:
        return (self._sources[name].every * 2 + self._deadline).total_seconds()

    async def _read(self, name: str, samples: Samples) -> None:
        seconds = self._deadline.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                await self._sources[name].read(samples)
        except TimeoutError as error:
            raise UnavailableError(f"{name}: no answer in {seconds:.0f} s") from error


def _families(samples: Mapping[Declaration, Mapping[Labels, float]]) -> Iterator[Metric]:
    for declaration, values in samples.items():
        metric = GaugeMetricFamily(
            declaration.name, declaration.description, labels=declaration.labels
        )
        for labels, value in values.items():
            metric.add_metric(labels, value)
        yield metric
