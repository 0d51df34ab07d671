"""Draws what has been measured, as `docs/img/bench-*.svg`, in the reader's colours: light or dark.

By hand, as a table is a few bars and a curve a few lines.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench.results import RESULTS, read

PICTURES = Path(__file__).parents[1] / "docs/img"
WIDTH, MARGIN = 880, 16
LINE, BAR = 48, 14
BOX = (72, 56, 560, 260)  # of a curve: left, top, width, height
COLOURS = 4
WHOLE = 10  # from here on without a fraction
LEAST = 0.01  # where there are no logarithms

STYLE = """
    text { font: 13px sans-serif; fill: #1f2328 } .small { font-size: 11px; fill: #59636e }
    .title { font-size: 15px; font-weight: bold } .ground { fill: #ffffff } .track { fill: #eaeef2 }
    .met { fill: #1a7f37 } .missed { fill: #bc4c00 } .open { fill: #0969da }
    .mark { stroke: #1f2328; stroke-width: 2 } .grid { stroke: #d1d9e0; stroke-width: 1 }
    path[class^=c] { stroke-width: 2 }
    .c0 { stroke: #0969da; fill: #0969da } .c1 { stroke: #bc4c00; fill: #bc4c00 }
    .c2 { stroke: #1a7f37; fill: #1a7f37 } .c3 { stroke: #8250df; fill: #8250df }
    path { fill: none !important }
    @media (prefers-color-scheme: dark) {
        text { fill: #f0f6fc } .small { fill: #9198a1 } .ground { fill: #0d1117 }
        .track { fill: #212830 } .met { fill: #3fb950 } .missed { fill: #f0883e }
        .open { fill: #58a6ff } .mark { stroke: #f0f6fc } .grid { stroke: #3d444d }
        .c0 { stroke: #58a6ff; fill: #58a6ff } .c1 { stroke: #f0883e; fill: #f0883e }
        .c2 { stroke: #3fb950; fill: #3fb950 } .c3 { stroke: #bc8cff; fill: #bc8cff }
    }
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """Values along one side of a curve, in equal steps or, `is_log`, in equal factors."""

    values: Sequence[float]
    is_log: bool

    def share(self, value: float) -> float:
        """Return where a value is, from 0 to 1."""
        low, high = self._scaled(self.low), self._scaled(max(self.values))
        return (self._scaled(value) - low) / ((high - low) or 1)

    @property
    def low(self) -> float:
        """Where it begins: at nothing, unless in factors."""
        return max(LEAST, min(self.values)) if self.is_log else 0

    @property
    def marks(self) -> list[float]:
        """A few values to write beside it."""
        if not self.is_log:
            return [max(self.values) * step / 4 for step in range(5)]
        low, high = math.log10(self.low), math.log10(max(self.values))
        return [10 ** (low + (high - low) * step / 4) for step in range(5)]

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, LEAST)) if self.is_log else value


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a picture of a table: how much of its limit, or of a peer, each work reaches."""
    most = max(1.0, *(one["ratio"] or 0 for one in rows), *(one["budget"] or 0 for one in rows))
    return _svg(title, MARGIN + 24 + LINE * len(rows), _bars(rows, most))


def _bars(rows: Sequence[Mapping[str, Any]], most: float) -> Iterator[str]:
    scale = (WIDTH - 2 * MARGIN) / most
    for place, row in enumerate(rows):
        top, ratio, budget = MARGIN + 32 + LINE * place, row["ratio"] or 0, row["budget"]
        kind = "open" if budget is None else "met" if ratio >= budget else "missed"
        words = f"{ratio:.2f} of {row['limit']}: {' and '.join(row['figures'])}"
        yield _text(MARGIN, top, row["work"])
        yield _text(WIDTH - MARGIN, top, words, kind="small", anchor="end")
        yield _bar("track", top + 6, most * scale)
        yield _bar(kind, top + 6, ratio * scale)
        if budget is not None:
            at = MARGIN + budget * scale
            yield f'<path class="mark" d="M{at:.1f},{top + 3}v{BAR + 6}"/>'


def _bar(kind: str, top: float, width: float) -> str:
    return f'<rect class="{kind}" x="{MARGIN}" y="{top}" width="{width:.1f}" height="{BAR}"/>'


def curve(one: Mapping[str, Any]) -> str:
    """Return a picture of how something grows: a line for each of its series."""
    points = [point for points in one["series"].values() for point in points]
    across = Axis([x for x, _ in points], is_log=one["isLog"])
    up = Axis([y for _, y in points], is_log=one["isLog"])
    return _svg(one["title"], BOX[1] + BOX[3] + 48, _lines(one, across, up))


def _lines(one: Mapping[str, Any], across: Axis, up: Axis) -> Iterator[str]:
    left, top, width, height = BOX
    for value in up.marks:
        at = top + height * (1 - up.share(value))
        yield f'<path class="grid" d="M{left},{at:.1f}h{width}"/>'
        yield _text(left - 8, at + 4, _number(value), kind="small", anchor="end")
    for value in sorted(set(across.values)):
        at = left + width * across.share(value)
        yield _text(at, top + height + 18, _number(value), kind="small", anchor="middle")
    yield _text(left + width / 2, top + height + 38, one["x"], kind="small", anchor="middle")
    yield _text(left, top - 8, one["y"], kind="small", anchor="end")
    for place, (name, points) in enumerate(one["series"].items()):
        places = [
            (left + width * across.share(x), top + height * (1 - up.share(y))) for x, y in points
        ]
        path = "L".join(f"{x:.1f},{y:.1f}" for x, y in places)
        colour = f"c{place % COLOURS}"
        yield f'<path class="{colour}" d="M{path}"/>'
        yield from (
            f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places
        )
        yield from _legend(name, points[-1][1], colour, top + 22 * place)


def _legend(name: str, last: float, colour: str, top: float) -> Iterator[str]:
    left = BOX[0] + BOX[2] + 24
    yield f'<rect class="{colour}" x="{left}" y="{top}" width="12" height="4"/>'
    yield _text(left + 20, top + 6, f"{name}: {_number(last)}", kind="small")


def _svg(title: str, height: float, drawn: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(title, {chr(34): "&quot;"})}">'
    )
    ground = f'<rect class="ground" width="{WIDTH}" height="{height:.0f}"/>'
    heading = _text(MARGIN, MARGIN + 8, title, kind="title")
    return "\n".join((head, f"<style>{STYLE}</style>", ground, heading, *drawn, "</svg>\n"))


def _text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= WHOLE or value == int(value) else f"{value:.2g}"


def draw(results: Path = RESULTS, directory: Path = PICTURES) -> list[Path]:
    """Draw each table and each curve there is; returns the pictures."""
    kept = read(results)
    pictures = {
        **{name: table(name.capitalize(), rows) for name, rows in kept.get("works", {}).items()},
        **{f"growth-{name}": curve(one) for name, one in kept.get("growth", {}).items()},
    }
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"bench-{name}.svg" for name in pictures]
    for path, text in zip(paths, pictures.values(), strict=True):
        path.write_text(text)
    return paths
