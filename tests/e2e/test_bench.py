"""The measurement itself: it runs, and a wrong answer fails it."""

import asyncio
import shutil
import sys
from pathlib import Path

import orjson
import pytest

from bench.load import Load, NoLoadError, run_load
from bench.peer_processes import PEERS
from bench.system import running_limit
from bench.works.bulk import COPIED
from tests.support.forked_process import forked_python
from tests.support.repository import ROOT

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


async def test_a_work_is_measured(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    told = await bench("reads", "--results", str(results), python=forked_python())
    rows = orjson.loads(results.read_bytes())["works"]["reads"]
    assert [row["limit"] for row in rows] == ["bare aiohttp"] * 2
    assert all(row["perSecond"] > 0 and row["work"] in told for row in rows)


@pytest.mark.long
async def test_works_are_measured(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    told = await bench("creates", "--peers", "--api-workers", "2", "--results", str(results))
    rows = orjson.loads(results.read_bytes())["works"]["creates"]
    assert told.count("POST /leads") == len(rows)
    assert {row["work"].partition(", ")[2] for row in rows} == {
        f"{callers} callers, 2 APIs" for callers in (64, 256)
    }
    beside = {row["limit"] for row in rows}
    # Without a network the bench goes on without the peers.
    assert beside >= {"bare aiohttp", "one unchecked INSERT a request", "the way alone"}
    assert "Going on without" in told or beside >= {peer.name for peer in PEERS}


@pytest.mark.long
async def test_many_leads_at_once_are_measured(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    await bench("imports", "replays", "--backlog", "500", "--results", str(results))
    works = orjson.loads(results.read_bytes())["works"]
    assert [row["limit"] for row in works["imports"]] == [COPIED, "the same alone"]
    assert [row["limit"] for row in works["replays"]] == [COPIED, "the same alone"] * 2
    assert all(row["ratio"] > 0 for rows in works.values() for row in rows)


@pytest.mark.long
async def test_growth_is_measured(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    told = await bench(*("growth", "--most", "100", "--backlog", "200", "--results", str(results)))
    curves = orjson.loads(results.read_bytes())["growth"]
    points = {
        name: [[x for x, _ in line] for line in curve["series"].values()]
        for name, curve in curves.items()
    }
    assert points == {
        "leads": [[1_000], [1_000], [1_000]],
        "connections": [[32, 64], [32, 64]],
        "syncers": [[1, 2, 4, 8]],
        "followers": [[0, 100], [0]],
    }
    assert all(curve["title"] in told for curve in curves.values())


@pytest.mark.long
async def test_start_memory_and_rest_are_measured() -> None:
    told = orjson.loads(await run("bench.idle", "--load", "1", "--rest", "1"))
    assert told["readySeconds"]["again"] > 0
    for megabytes in told["megabytes"].values():
        assert megabytes.keys() >= {"api", "syncer", "summarizer", "PostgreSQL", "Valkey"}
    assert told["idlePercentOfACore"]["all"] >= 0


async def bench(*arguments: str, python: str = sys.executable) -> str:
    """Measure for as short as can be; returns what is told."""
    return await run("bench", *arguments, "--rounds", "1", "--seconds", "1", python=python)


async def run(module: str, *arguments: str, python: str = sys.executable) -> str:
    """Run a module; returns what it told."""
    process = await asyncio.create_subprocess_exec(
        *(python, "-m", module, *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.long
@pytest.mark.parametrize(
    "wrong",
    [Load(paths=["/"], headers={}, status=201), Load(paths=["/"], headers={}, holds="Ada")],
    ids=["status", "body"],
)
async def test_a_wrong_answer_is_no_figure(tmp_path: Path, wrong: Load) -> None:
    async with running_limit("bare") as url:
        right = await run_load(
            url, Load(paths=["/"], headers={}, holds="xxx"), seconds=1, scratch=tmp_path
        )
        assert right.answers > 0
        with pytest.raises(NoLoadError, match="Not the answers"):
            await run_load(url, wrong, seconds=1, scratch=tmp_path)
