"""What several processes export becomes one: sums where they make sense, the worst elsewhere."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner
from prometheus_client import Metric
from prometheus_client.openmetrics import parser

from ops.exporter.metrics import Row, command, merge, rows, to_openmetrics


def gauge(name: str, value: float) -> str:
    return f"# TYPE {name} gauge\n{name} {value}\n"


def counter(name: str, **values: float) -> str:
    lines = [f'{name}{{kind="{kind}"}} {value}\n' for kind, value in values.items()]
    return f"# TYPE {name} counter\n{''.join(lines)}"


def histogram(name: str, *, total: float, **counts: float) -> str:
    """`counts` are cumulative, by the buckets' bounds with `_` for the point."""
    bounds = {bound.strip("b").replace("_", "."): count for bound, count in counts.items()}
    buckets = [f'{name}_bucket{{le="{bound}"}} {count}\n' for bound, count in bounds.items()]
    last = list(counts.values())[-1]
    return f"# TYPE {name} histogram\n{''.join(buckets)}{name}_count {last}\n{name}_sum {total}\n"


def merged(*texts: str) -> Sequence[Row]:
    return [row for family in merge(texts) for row in rows(family)]


@pytest.mark.parametrize(
    ("name", "values", "joined"),
    [
        ("leads_partitions_owned", (3, 5), 8),
        ("process_resident_memory_bytes", (10, 20), 30),
        ("leads_loop_age_seconds", (3, 90), 90),
        ("leads_circuit_open", (0, 1), 1),
        ("leads_dependency_up", (1, 0), 0),
        ("leads_exporter_up", (0, 1), 0),
        ("leads_partition_owner", (1, 1), 1),
        ("leads_backlog_events", (70, 70), 70),
    ],
)
def test_gauges_are_joined_by_what_they_say(
    name: str, values: tuple[float, float], joined: float
) -> None:
    [row] = merged(*(gauge(name, value) for value in values))
    assert (row.name, row.value) == (name, joined)


def test_counters_are_sums_by_their_labels() -> None:
    found = merged(counter("a_total", x=1, y=2), counter("a_total", y=5, z=7))
    assert {row.labels["kind"]: row.value for row in found} == {"x": 1, "y": 7, "z": 7}


@pytest.mark.parametrize(
    ("counts", "p99"),
    [
        ({"b0_1": 0, "b1": 1000, "bInf": 1000}, 0.1 + 0.9 * 0.99),  # evenly spread
        ({"b0_1": 100, "b1": 100, "bInf": 100}, 0.099),
        ({"b0_1": 0, "b1": 0, "bInf": 10}, 1),  # as far as is known
        ({"b0_1": 0, "b1": 0, "bInf": 0}, None),
    ],
)
def test_a_histogram_is_a_row(counts: Mapping[str, float], p99: float | None) -> None:
    text = histogram(
        "a_seconds", total=20, **{k.replace("Inf", "+Inf"): v for k, v in counts.items()}
    )
    [row] = merged(text, text)
    assert row.value == 2 * counts["bInf"]
    assert row.p99 == (None if p99 is None else pytest.approx(p99))
    assert row.mean == (pytest.approx(20 / counts["bInf"]) if counts["bInf"] else None)


def test_what_comes_out_is_openmetrics() -> None:
    texts = [
        counter("a_total", x=1) + gauge("b", 2) + histogram("c_seconds", total=1, **{"b+Inf": 3}),
        counter("a_total", x=1),
    ]
    read = cast("Callable[[str], Iterator[Metric]]", parser.text_string_to_metric_families)
    parsed = {one.name: one for one in read(to_openmetrics(merge(texts)))}
    assert {name: one.type for name, one in parsed.items()} == {
        "a": "counter",
        "b": "gauge",
        "c_seconds": "histogram",
    }
    assert [(one.name, one.value) for one in parsed["a"].samples] == [("a_total", 2)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "no list"),
        ("nonsense", "no list"),
        ('[{"targets": [""]}]', "no list"),
        (None, "No such file"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "targets.json"
    if content is not None:
        path.write_text(content)
    result = CliRunner().invoke(command, [str(path)])
    assert result.exit_code == 2
    assert says in result.output


def test_the_list_is_that_of_the_system_whose_settings_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, port in ((".data", 8), ("second", 9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "targets.json").write_text(f'[{{"targets": ["127.0.0.1:{port}"]}}]')
    monkeypatch.chdir(tmp_path)
    for env_file, port in (("", 8), ("second/stack.env", 9)):
        monkeypatch.setenv("ENV_FILE", env_file)
        assert f"127.0.0.1:{port}/metrics: " in CliRunner().invoke(command).stderr
    monkeypatch.setenv("ENV_FILE", "third/stack.env")
    assert "there is no third/targets.json" in CliRunner().invoke(command).stderr


def test_processes_that_do_not_answer_are_named(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    path.write_text(
        json.dumps([{"targets": ["127.0.0.1:9"], "labels": {"__metrics_path__": "/m"}}])
    )
    result = CliRunner().invoke(command, [str(path), "http://127.0.0.1:9", "--json"])
    assert result.exit_code == 1
    assert result.stdout == "[]\n"
    assert "http://127.0.0.1:9/m: " in result.stderr
    assert "http://127.0.0.1:9/metrics: " in result.stderr
