"""What was measured is kept by name, and drawn so that it can be read."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench.pictures import curve, draw, table
from bench.results import keep, read

SVG = "{http://www.w3.org/2000/svg}"


def row(ratio: float | None, *, budget: float | None = None, limit: str = "it") -> dict[str, Any]:
    figures = ("1,234/s", "2,000/s")
    return {
        "work": "POST /leads",
        "limit": limit,
        "ratio": ratio,
        "budget": budget,
        "figures": figures,
    }


def line(*, is_log: bool, **series: list[tuple[float, float]]) -> dict[str, Any]:
    return {"title": "T", "x": "leads", "y": "ms", "isLog": is_log, "series": series}


def texts(picture: str) -> str:
    return " ".join(ET.fromstring(picture).itertext())  # noqa: S314 (our own)


def bars(picture: str) -> dict[str, float]:
    """Return the width of the last bar of each kind."""
    found = ET.fromstring(picture).findall(f"{SVG}rect")  # noqa: S314 (our own)
    return {one.attrib["class"]: float(one.attrib["width"]) for one in found}


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (row(0.8, budget=0.8), "met"),
        (row(0.79, budget=0.8), "missed"),
        (row(3.0), "open"),
        (row(None, budget=0.8), "missed"),
    ],
    ids=["met", "missed", "without-budget", "no-answer"],
)
def test_a_bar_shows_whether_its_budget_is_met(one: dict[str, Any], kind: str) -> None:
    picture = table("Creates", [one])

    assert kind in bars(picture)
    assert picture.count('class="mark"') == (one["budget"] is not None)


def test_bars_are_as_long_as_their_ratios() -> None:
    widths = bars(table("Creates", [row(4.0), row(1.0, budget=0.5)]))

    assert widths["met"] * 4 == pytest.approx(widths["open"], rel=0.01)


def test_words_are_words() -> None:
    picture = table('A "title" & more', [row(0.5, limit="<b>bare & plain</b>")])

    assert "0.50 of <b>bare & plain</b>: 1,234/s and 2,000/s" in texts(picture)
    assert "prefers-color-scheme: dark" in picture


@pytest.mark.parametrize(
    ("one", "places"),
    [
        (line(is_log=True, page=[(1e3, 1.0), (1e6, 100.0)]), [(72, 316), (632, 56)]),
        (line(is_log=False, page=[(0, 50.0), (500, 100.0)]), [(72, 186), (632, 56)]),
        (line(is_log=True, page=[(32, 0.0), (64, 10.0)]), [(72, 316), (632, 56)]),
        (line(is_log=False, page=[(1, 0.0)]), [(632, 316)]),
    ],
    ids=["factors", "steps", "nothing-in-factors", "one-point"],
)
def test_lines_go_where_their_values_are(
    one: dict[str, Any], places: list[tuple[float, float]]
) -> None:
    dots = ET.fromstring(curve(one)).findall(f"{SVG}circle")  # noqa: S314 (our own)

    assert [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in dots] == places


def test_everything_that_is_kept_is_drawn(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text("[]")  # as an earlier version wrote it
    keep(results, "works", {"reads": [row(0.1)], "creates": [row(0.2)]})
    keep(results, "works", {"reads": [row(0.3)]})
    keep(results, "growth", {"leads": line(is_log=True, page=[(1, 1), (10, 2)])})

    kept = read(results)
    assert [kept["works"][name][0]["ratio"] for name in ("reads", "creates")] == [0.3, 0.2]
    assert {path.name for path in draw(results, tmp_path / "img")} == {
        "bench-reads.svg",
        "bench-creates.svg",
        "bench-growth-leads.svg",
    }
