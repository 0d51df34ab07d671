"""Draws the dashboard as `docs/img/dashboard.svg`: `python -m deploy.observability.picture`.

Runs the system as `make run` does, with Debian's Prometheus beside it, under load for `--minutes`.
Then Prometheus is asked each panel's queries, and its answers are drawn in the dashboard's layout.
Ends with 1 when a panel has nothing to show.
"""

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import asyncpg
import click
import httpx
import yaml

from deploy.observability.load import Load
from devstack.data_directory import scratch_directory
from devstack.environment import STACK_FILE, file_values
from devstack.free_ports import LOOPBACK, free_port

HERE = Path(__file__).parent
PICTURE = HERE.parents[1] / "docs/img/dashboard.svg"
STEP = 15
START = 120
LOCKED = 180

CELL, LINE, MARGIN = 66, 25, 8
COLOURS = ("#3274d9", "#e0752d", "#37872d", "#c4162a", "#8f3bb8", "#b8860b", "#1f78c1", "#6d1f62")
SHOWN = 4
INK, GREY, PAPER, GROUND = "#24292e", "#6a737d", "#ffffff", "#f4f5f5"


@dataclass(frozen=True, slots=True)
class Series:
    """A line: its name, and values by second; NaN ones are left out."""

    name: str
    points: tuple[tuple[float, float], ...]


@click.command()
@click.option("--minutes", default=15, show_default=True, help="For how long there is load.")
def main(minutes: int) -> None:
    """Draw the dashboard of a system under load."""
    asyncio.run(draw(minutes=minutes))


async def draw(*, minutes: int) -> None:
    """Run everything, and write the picture."""
    dashboard = json.loads((HERE / "dashboard.json").read_text())
    with scratch_directory() as directory:
        async with (
            running_system(directory) as url,
            running_prometheus(directory) as prometheus,
            Load(url) as load,
        ):
            began = time.time()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run(seconds=60 * minutes), name="load")
                tasks.create_task(lock_out(directory, after=25 * minutes), name="lock")
            panels = await answers(dashboard, prometheus, start=began, end=time.time())
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg(dashboard, panels, minutes=minutes))
    empty = [panel["title"] for panel in dashboard["panels"] if panels.get(panel["id"]) == []]
    if empty:
        sys.exit(f"Panels without data: {', '.join(empty)}")


@contextlib.asynccontextmanager
async def running_system(directory: Path) -> AsyncGenerator[str]:
    """Run what `make run` runs; yields the API's address."""
    port = free_port()
    settings = {
        "PORT": str(port),
        "DATA_DIR": str(directory),
        "GROQ": "stand-in",
        "RATE_LIMIT": "off",
        "ENV_FILE": "",
        "SYNCERS": "2",
        "API_WORKERS": "2",
        "SUMMARY_NEW_LEADS": "true",
        "GROQ_REQUESTS_PER_MINUTE": "3000",
        "GROQ_TOKENS_PER_MINUTE": "1000000",
    }
    async with _process(sys.executable, "-m", "devstack", environment=os.environ | settings):
        url = f"http://{LOOPBACK}:{port}"
        await _until_ok(f"{url}/health/ready")
        yield url


async def lock_out(directory: Path, *, after: float) -> None:
    """After so many seconds have something happen: leads cannot be written for a while."""
    await asyncio.sleep(after)
    dsn = file_values(str(directory / STACK_FILE))["SUPABASE_CONNECTION_STRING"]
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE leads.lead IN SHARE ROW EXCLUSIVE MODE")
            await asyncio.sleep(LOCKED)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def running_prometheus(directory: Path) -> AsyncGenerator[str]:
    """Run Prometheus with the product's rules, on what `make run` says there is to scrape."""
    configuration = yaml.safe_load((HERE / "prometheus.yaml").read_text())
    targets = [{"files": [str(directory / "targets.json")]}]
    configuration["scrape_configs"] = [{"job_name": "leads", "file_sd_configs": targets}]
    configuration["rule_files"] = [str(HERE / "alerts.yaml")]
    path = directory / "prometheus.json"
    path.write_text(json.dumps(configuration))
    address = f"{LOOPBACK}:{free_port()}"
    options = (f"--config.file={path}", f"--storage.tsdb.path={directory / 'prometheus'}")
    async with _process("prometheus", *options, f"--web.listen-address={address}"):
        await _until_ok(f"http://{address}/-/ready")
        yield f"http://{address}"


@contextlib.asynccontextmanager
async def _process(
    *command: str, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[None]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def _until_ok(url: str) -> None:
    async with asyncio.timeout(START), httpx.AsyncClient() as http:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                (await http.get(url)).raise_for_status()
                return
            await asyncio.sleep(0.2)


async def answers(
    dashboard: dict[str, Any], prometheus: str, *, start: float, end: float
) -> dict[int, list[Series]]:
    """Return what each panel shows, by its id; nothing for titles of rows."""
    found: dict[int, list[Series]] = {}
    async with httpx.AsyncClient(base_url=prometheus, timeout=60) as http:
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                query = target["expr"].replace("$__rate_interval", "1m")
                moments = {"start": start, "end": end, "step": STEP}
                answer = await http.get("/api/v1/query_range", params={"query": query, **moments})
                result = answer.raise_for_status().json()["data"]["result"]
                lines = [_series(one, target["legendFormat"]) for one in result]
                found.setdefault(panel["id"], []).extend(one for one in lines if one.points)
    return found


def _series(one: dict[str, Any], legend: str) -> Series:
    for label, value in one["metric"].items():
        legend = legend.replace("{{" + label + "}}", value)
    values = [(float(at), float(value)) for at, value in one["values"]]
    return Series(legend, tuple((at, value) for at, value in values if math.isfinite(value)))


def svg(dashboard: dict[str, Any], panels: Mapping[int, list[Series]], *, minutes: int) -> str:
    """Return the picture."""
    bottom = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in dashboard["panels"])
    width, height = 24 * CELL + 2 * MARGIN, bottom * LINE + 2 * MARGIN + LINE
    times = [at for lines in panels.values() for one in lines for at, _ in one.points]
    span = (min(times), max(times))
    source = (
        f"{minutes} minutes of `make run` with two APIs and two syncers under load, as Prometheus "
        f"answered the dashboard's queries. For {LOCKED} s a lock kept leads from being written."
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">'
    )
    drawn = [
        piece
        for panel in dashboard["panels"]
        for piece in _drawn(panel, panels.get(panel["id"]), span=span)
    ]
    ground = f'<rect width="{width}" height="{height}" fill="{GROUND}"/>'
    source = _text(MARGIN, height - MARGIN, source, colour=GREY)
    return "\n".join((head, ground, *drawn, source, "</svg>\n"))


def _drawn(
    panel: dict[str, Any], lines: list[Series] | None, *, span: tuple[float, float]
) -> Iterator[str]:
    place = panel["gridPos"]
    x, y = place["x"] * CELL + MARGIN, place["y"] * LINE + MARGIN
    if lines is None:
        yield _text(x + 2, y + LINE - 7, panel["title"], size=14, weight="bold")
        return
    width, height = place["w"] * CELL - 6, place["h"] * LINE - 6
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{PAPER}" rx="2"/>'
    yield _text(x + 8, y + 16, panel["title"], weight="bold")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    lines = sorted(lines, key=lambda one: -max(value for _, value in one.points))[: len(COLOURS)]
    if panel["type"] == "stat":
        yield from _numbers(lines, unit, x=x, y=y, width=width)
        return
    top = max((value for one in lines for _, value in one.points), default=0) or 1
    box = (x + 46, y + 26, width - 54, height - 26 - 15 * min(len(lines), SHOWN) - 8)
    yield from _axes(box, top, unit)
    for colour, one in reversed(list(zip(COLOURS, lines, strict=False))):
        yield _path(one, box, top=top, span=span, colour=colour)
    for index, (colour, one) in enumerate(zip(COLOURS, lines[:SHOWN], strict=False)):
        at = box[1] + box[3] + 15 * (index + 1)
        more = f"  (and {len(lines) - SHOWN} more)" if index == SHOWN - 1 < len(lines) - 1 else ""
        yield f'<rect x="{x + 8}" y="{at - 4}" width="10" height="3" fill="{colour}"/>'
        last = formatted(one.points[-1][1], unit)
        yield _text(x + 22, at, f"{one.name}: {last}{more}", size=10, colour=GREY)


def _numbers(lines: Sequence[Series], unit: str, *, x: int, y: int, width: int) -> Iterator[str]:
    for index, one in enumerate(lines):
        left, top = x + 12 + index % 2 * width // 2, y + 62 + index // 2 * 58
        value = one.points[-1][1]
        colour = COLOURS[2] if value >= 0 else COLOURS[3]
        yield _text(left, top, formatted(value, unit), size=24, colour=colour)
        yield _text(left, top + 16, one.name, size=10, colour=GREY)


def _axes(box: tuple[int, int, int, int], top: float, unit: str) -> Iterator[str]:
    x, y, width, height = box
    for share in (0, 0.5, 1):
        at = y + height - round(height * share)
        yield f'<path d="M{x},{at}h{width}" stroke="#e1e4e8"/>'
        label = formatted(top * share, unit)
        yield _text(x - 4, at + 4, label, size=9, colour=GREY, anchor="end")


def _path(
    one: Series,
    box: tuple[int, int, int, int],
    *,
    top: float,
    span: tuple[float, float],
    colour: str,
) -> str:
    x, y, width, height = box
    length = span[1] - span[0]
    pieces: list[str] = []
    before = -math.inf
    for at, value in one.points:
        right = round(x + width * (at - span[0]) / length)
        down = round(y + height * (1 - max(0.0, value) / top), 1)
        pieces.append(f"{'M' if at - before > 2 * STEP else 'L'}{right},{down:g}")
        before = at
    return f'<path d="{"".join(pieces)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 11,
    colour: str = INK,
    weight: str = "normal",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def formatted(value: float, unit: str) -> str:
    """Return a value as Grafana would write it."""
    match unit:
        case "s":
            return _scaled(
                value, ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))
            )
        case "bytes":
            return _scaled(value, ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")))
        case "percentunit":
            return f"{float(f'{100 * value:.3g}'):,.10g} %"
        case "reqps" | "ops":
            return f"{value:.3g}/s"
        case _:
            return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    if not value:
        return "0"
    size, name = next((one for one in units if abs(value) >= one[0]), units[-1])
    return f"{value / size:.3g} {name}"


if __name__ == "__main__":
    main()
