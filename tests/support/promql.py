"""What a query of Prometheus asks for: its series, their labels, and over which time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import promql_parser as promql

# Grafana puts in four scrapes at least, as its source of data is told their interval.
RATE_INTERVAL = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on a label; `op` is one of Equal, NotEqual, Re, NotRe."""

    label: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query: its selectors, the labels that it names beside them or makes, and its windows."""

    selectors: tuple[tuple[str, tuple[Matcher, ...]], ...]
    grouped: frozenset[str]
    made: frozenset[str]
    windows: tuple[timedelta, ...]


def parse(text: str) -> Query:
    """Parse a query; raises `ValueError` where it is none."""
    selectors: list[tuple[str, tuple[Matcher, ...]]] = []
    grouped: set[str] = set()
    windows: list[timedelta] = []
    for node in _nodes(promql.parse(text.replace(RATE_INTERVAL, "1m"))):
        if isinstance(node, promql.VectorSelector):
            selectors.append((str(node.name), tuple(_matchers(node))))
        elif isinstance(node, promql.MatrixSelector):
            windows.append(node.range)
        elif isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)
        elif isinstance(node, promql.BinaryExpr) and node.modifier is not None:
            matching = node.modifier.matching
            grouped.update(() if matching is None else matching.labels)
    made = re.findall(r'label_replace\([^"]+(?:"[^"]*"[^",]+)*?, "(\w+)"', text)
    return Query(tuple(selectors), frozenset(grouped), frozenset(made), tuple(windows))


def _matchers(node: promql.VectorSelector) -> Iterator[Matcher]:
    for one in node.matchers.matchers:
        yield Matcher(one.name, str(one.op).rpartition(".")[2], one.value)


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    if isinstance(node, promql.MatrixSelector):
        yield from _nodes(node.vector_selector)
    for name in ("lhs", "rhs", "expr", "param"):
        if isinstance(child := getattr(node, name, None), promql.Expr):
            yield from _nodes(child)
    for child in getattr(node, "args", ()):
        if isinstance(child, promql.Expr):
            yield from _nodes(child)
