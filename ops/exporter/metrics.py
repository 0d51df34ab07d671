"""`ops metrics`: what all processes export, put together, for whoever has no Prometheus at hand."""

import asyncio
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Annotated, TypeAlias, cast

import click
import httpx
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics import exposition
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ops.output import as_json, print_json, print_table
from ops.running import run

TIMEOUT = 5.0
# What `make run` writes, beside the settings that it writes for commands.
TARGETS = "targets.json"
DATA = Path(".data")
# Gauges that count what each process has for itself. Of others the highest is shown: what they say
# is about one process, or about what all share.
SUMMED = frozenset(
    {
        *("leads_followers", "leads_partitions_owned", "leads_pool_connections"),
        *("process_open_fds", "process_resident_memory_bytes", "process_virtual_memory_bytes"),
    }
)
# Here it is the lowest: one process that lacks a server is what matters.
LOWEST = re.compile(r"_(up|writable|owner)$|^process_max_fds$")
QUANTILE = 0.99

Labels: TypeAlias = tuple[tuple[str, str], ...]
Series: TypeAlias = tuple[str, Labels]


class TargetGroup(BaseModel):
    """A group of a list as Prometheus' `file_sd_configs` reads it."""

    targets: list[Annotated[str, Field(min_length=1)]]
    labels: dict[str, str] = {}

    @property
    def addresses(self) -> Iterator[str]:
        """Where the metrics are."""
        scheme = self.labels.get("__scheme__", "http")
        path = self.labels.get("__metrics_path__", "/metrics")
        return (f"{scheme}://{target}{path}" for target in self.targets)


_LIST = TypeAdapter(list[TargetGroup])


@dataclass(frozen=True, slots=True)
class Family:
    """A metric of all processes: its values by the name and labels of each series."""

    name: str
    kind: str
    description: str
    values: dict[Series, float] = field(default_factory=dict[Series, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric with its labels. Of a histogram `value` counts what was measured.

    `mean` and `p99` are of histograms alone, the latter about the bound below which 99 % are.
    """

    name: str
    kind: str
    labels: Mapping[str, str]
    value: float
    mean: float | None = None
    p99: float | None = None


@click.command("metrics")
@click.argument("sources", nargs=-1)
@click.option("--match", metavar="TEXT", help="Only metrics in whose names this is.")
@click.option("--openmetrics", is_flag=True, help="Print them as OpenMetrics text.")
@as_json
def command(
    *, sources: tuple[str, ...], match: str | None, openmetrics: bool, as_json: bool
) -> None:
    """Show the metrics of all processes together.

    SOURCES are addresses of processes (http://host:port) or files with lists of them, as
    Prometheus reads with file_sd_configs. Without any it is the list that `make run` writes:
    targets.json beside ENV_FILE, or .data/targets.json.

    Counters and histograms are sums. So are gauges that count what a process has for itself; of
    others the highest is shown, and of those that say whether something is well the lowest. Ends
    with 1 when a process does not answer; the others' are shown.
    """
    if openmetrics and as_json:
        raise click.UsageError("--openmetrics and --json exclude each other.")
    addresses = list(dict.fromkeys(_addresses(sources or _default())))
    texts, missing = run(_fetch_all(addresses))
    families = [one for one in merge(texts) if match is None or match in one.name]
    if openmetrics:
        click.echo(to_openmetrics(families), nl=False)
    elif as_json:
        print_json([row for family in families for row in rows(family)])
    else:
        print_table(
            ("metric", "labels", "#value", "#mean", "#p99"),
            (_cells(row) for family in families for row in rows(family)),
        )
    for address, reason in missing.items():
        click.echo(f"{address}: {reason}", err=True)
    if missing:
        raise SystemExit(1)


def _default() -> tuple[str, ...]:
    env_file = os.environ.get("ENV_FILE")
    targets = (Path(env_file).parent if env_file else DATA) / TARGETS
    if not targets.exists():
        raise click.UsageError(f"Name a process or a list of them: there is no {targets} here.")
    return (str(targets),)


def _addresses(sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        if source.startswith(("http://", "https://")):
            yield _with_path(source)
        else:
            for group in _listed(Path(source)):
                yield from group.addresses


def _with_path(address: str) -> str:
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError) as error:
        raise click.UsageError(f"{address[:80]!r} is no address: {error}") from error
    return str(url.copy_with(path="/metrics")) if url.path == "/" else address


def _listed(path: Path) -> list[TargetGroup]:
    try:
        return _LIST.validate_json(path.read_bytes())
    except ValidationError as error:
        raise click.UsageError(f"{path} is no list such as file_sd_configs reads") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise click.UsageError(f"{str(path)[:80]!r}: {reason}") from error


async def _fetch_all(addresses: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return what was answered, and why the others did not answer."""
    async with httpx.AsyncClient(timeout=TIMEOUT) as client:
        answers = await asyncio.gather(*(_fetch(client, address) for address in addresses))
    pairs = list(zip(addresses, answers, strict=True))
    texts = [text for _, (text, _) in pairs if text is not None]
    return texts, {address: why for address, (text, why) in pairs if text is None}


async def _fetch(client: httpx.AsyncClient, address: str) -> tuple[str | None, str]:
    try:
        response = await client.get(address)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return None, str(error) or type(error).__name__
    if response.status_code != HTTPStatus.OK:
        return None, f"answers {response.status_code}"
    return response.text, ""


def merge(texts: Sequence[str]) -> list[Family]:
    """Return the metrics of all processes, each given as its text, by name."""
    found: dict[str, Family] = {}
    for text in texts:
        for metric in text_string_to_metric_families(text):
            family = Family(metric.name, metric.type, metric.documentation)
            family = found.setdefault(metric.name, family)
            for sample in metric.samples:
                series = (sample.name, tuple(sample.labels.items()))
                before = family.values.get(series)
                family.values[series] = (
                    sample.value if before is None else _joined(family, before, sample.value)
                )
    return [found[name] for name in sorted(found)]


def _joined(family: Family, one: float, other: float) -> float:
    if family.kind != "gauge" or family.name in SUMMED:
        return one + other
    return min(one, other) if LOWEST.search(family.name) else max(one, other)


def rows(family: Family) -> Iterator[Row]:
    """Yield a row for each series, or for each histogram."""
    if family.kind == "histogram":
        yield from _histograms(family)
        return
    for (name, labels), value in family.values.items():
        yield Row(name=name, kind=family.kind, labels=dict(labels), value=value)


def _histograms(family: Family) -> Iterator[Row]:
    parts: defaultdict[Labels, dict[str, float]] = defaultdict(dict)
    for (name, labels), value in family.values.items():
        others = tuple(one for one in labels if one[0] != "le")
        parts[others][dict(labels).get("le", name.removeprefix(family.name))] = value
    for labels, values in parts.items():
        total, count = values.pop("_sum"), values.pop("_count")
        yield Row(
            name=family.name,
            kind=family.kind,
            labels=dict(labels),
            value=count,
            mean=total / count if count else None,
            p99=_quantile({float(bound): number for bound, number in values.items()}, count),
        )


def _quantile(buckets: Mapping[float, float], count: float) -> float | None:
    """Return where so many are below, as Prometheus does: evenly spread within a bucket."""
    if not count:
        return None
    wanted, steps = QUANTILE * count, [(0.0, 0.0), *sorted(buckets.items())]
    for (lower, before), (upper, below) in pairwise(steps):
        if below >= wanted:
            is_open = upper == inf or below == before
            return (
                lower if is_open else lower + (upper - lower) * (wanted - before) / (below - before)
            )
    return None


def _cells(row: Row) -> tuple[object, ...]:
    labels = ", ".join(f"{name}={value}" for name, value in row.labels.items() if value)
    return row.name, labels, *(_number(one) for one in (row.value, row.mean, row.p99))


def _number(value: float | None) -> object:
    if value is None:
        return ""
    return int(value) if value == int(value) else f"{value:.4g}"


def to_openmetrics(families: Sequence[Family]) -> str:
    """Return them as the text that Prometheus and others read."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(families))
    generate = cast("Callable[[CollectorRegistry], bytes]", exposition.generate_latest)
    return generate(registry).decode()


class _Merged(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.description, family.kind)
            for (name, labels), value in family.values.items():
                metric.add_sample(name, dict(labels), value)
            yield metric
