"""How cost grows with leads, connections, syncers and followers: `python -m bench growth`."""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.followers import following
from bench.load import Load
from bench.measurement import Bench, Target
from bench.system import System, more_users, running_system, stored_in, stored_leads
from bench.works.backlog import worked_off
from bench.works.requests import CALLERS, CREATED, ONE_CALLER, new_leads, searches

# What `handlers.changes` allows: one user to follow so often, and so many to follow a process.
EACH, MOST = 20, 1_000


@dataclass(frozen=True, slots=True)
class Curve:
    """Lines of (x, y) by their names; `is_log` where both go in factors."""

    title: str
    x: str
    y: str
    is_log: bool
    series: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict[str, list[tuple[float, float]]](list)
    )

    @property
    def described(self) -> Mapping[str, object]:
        """The same in plain values."""
        head = {"title": self.title, "x": self.x, "y": self.y, "isLog": self.is_log}
        return {**head, "series": dict(self.series)}


async def leads(bench: Bench, most: int) -> Curve:
    """Read a page, search and create in a table that grows to `most` leads."""
    curve = Curve("Latency by leads in the table", "leads", "p95 ms", is_log=True)
    stored = 0
    async with running_system() as system:
        for number in _up_to(most, of=(1_000, 10_000, 100_000, 1_000_000)):
            await stored_leads(system, number - stored, first=stored + 1)
            stored = number
            targets = {
                "page of 100": _reading(system, ["/leads?limit=100"]),
                "search": _reading(system, list(searches(rows=number))),
                f"create, {CALLERS} callers": _creating(system, CALLERS),
            }
            for name, rounds in zip(targets, await bench.measure(*targets.values()), strict=True):
                curve.series[name].append((number, median(one.p95 for one in rounds)))
    return curve


async def connections(bench: Bench, most: int) -> Curve:
    """Read and create over up to `most` connections."""
    curve = Curve("Speed by connections", "connections", "per second", is_log=True)
    async with running_system() as system:
        path = f"/leads/{(await stored_leads(system, 1))[0]}"
        for number in _up_to(most, of=(32, 64, 128, 256, 512, 1_024)):
            targets = {
                "cached reads": _reading(system, [path], callers=number),
                "creates": _creating(system, number),
            }
            for name, rounds in zip(targets, await bench.measure(*targets.values()), strict=True):
                curve.series[name].append((number, median(one.per_second for one in rounds)))
    return curve


async def syncers(bench: Bench, most: int) -> Curve:
    """Work off what waits with up to `most` syncers, each with a partition of its own."""
    curve = Curve("Speed by syncers", "syncers, and partitions", "events per second", is_log=False)
    for number in _up_to(most, of=(1, 2, 4, 8)):
        seconds = await worked_off(bench.backlog, syncers=number, partitions=number)
        curve.series["leads that wait"].append((number, bench.backlog / seconds))
    return curve


async def followers(bench: Bench, most: int) -> Curve:
    """Create while up to `most` clients follow all changes."""
    curve = Curve(f"Creates by followers, {CALLERS} callers", "followers", "p95 ms", is_log=False)
    few, many = (0, 100, 250, 500, MOST), (0, MOST, 2 * MOST, 5 * MOST)
    for apis, numbers in ((1, few), (6, many)):
        async with running_system(API_WORKERS=str(apis)) as system:
            users = await more_users(system, -(-min(most, max(numbers)) // EACH))
            for number in _up_to(most, of=numbers):
                async with following(system.url, users, number):
                    [rounds] = await bench.measure(_creating(system, CALLERS))
                name = "1 API" if apis == 1 else f"{apis} APIs"
                curve.series[name].append((number, median(one.p95 for one in rounds)))
    return curve


def _up_to(most: int, *, of: Sequence[int]) -> Sequence[int]:
    return [number for number in of if number <= most] or of[:1]


def _reading(system: System, paths: Sequence[str], *, callers: int = ONE_CALLER) -> Target:
    return Target(system.url, Load(paths=paths, headers=system.headers, connections=callers))


def _creating(system: System, callers: int) -> Target:
    return Target(system.url, new_leads(system, callers), stored_in(system.dsn, CREATED), "the API")


CURVES: dict[str, tuple[Callable[[Bench, int], Coroutine[Any, Any, Curve]], int]] = {
    "leads": (leads, 1_000_000),
    "connections": (connections, 1_024),
    "syncers": (syncers, 8),
    "followers": (followers, 5_000),
}
