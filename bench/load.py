"""Load by wrk: a closed loop of connections that each wait for their answer."""

import asyncio
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

SCRIPT = Path(__file__).with_name("load.lua")
GRACE = timedelta(seconds=30)


class NoLoadError(Exception):
    """wrk is not installed, or an answer was a wrong one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to ask for, over and over: `paths` in turn, or the first with a numbered `body`.

    `{n}` in the body is a number that no other request has. Every answer must have the
    `status` and hold the text `holds`.
    """

    paths: Sequence[str]
    method: str = "GET"
    headers: Mapping[str, str]
    body: str | None = None
    status: int = 200
    holds: str = ""
    connections: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The result of one round; latencies in milliseconds."""

    answers: int
    per_second: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of_all(cls, answers: int, *, seconds: float) -> Self:
        """Return what is known of work that has no answers one by one: its speed."""
        return cls(answers=answers, per_second=answers / seconds, p50=0, p95=0, p99=0)

    @classmethod
    def of_latencies(cls, milliseconds: Sequence[float], *, seconds: float) -> Self:
        """Return the result of at least one answer."""
        ordered, count = sorted(milliseconds), len(milliseconds)
        p50, p95, p99 = (ordered[count * share // 100] for share in (50, 95, 99))
        return cls(answers=count, per_second=count / seconds, p50=p50, p95=p95, p99=p99)


def next_number() -> int:
    """Return a number that no request of an earlier load has, and all of later ones pass."""
    return time.time_ns() // 1_000


async def run_load(url: str, load: Load, *, seconds: int, scratch: Path) -> Round:
    """Ask for a while; raises `NoLoadError` when a single answer is a wrong one."""
    program = shutil.which("wrk")
    if program is None:
        raise NoLoadError("wrk is not installed: apt-get install wrk")
    plan = scratch / "load.json.lua"
    plan.write_text(_lua(load))
    process = await asyncio.create_subprocess_exec(
        *(program, "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "30s"),
        *("-s", str(SCRIPT), url, "--", str(plan)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds + GRACE.total_seconds()):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return _round(output.decode())


def _lua(load: Load) -> str:
    """Return the load as the Lua table that the script reads."""
    fields = {
        "method": load.method,
        "status": load.status,
        "holds": load.holds,
        "first_number": next_number(),
        **({} if load.body is None else {"body": load.body}),
    }
    lines = [f"[{_quoted(name)}] = {_quoted(value)}," for name, value in fields.items()]
    headers = [f"[{_quoted(name)}] = {_quoted(value)}," for name, value in load.headers.items()]
    paths = [f"{_quoted(path)}," for path in load.paths]
    return "\n".join(
        ("return {", *lines, "headers = {", *headers, "},", "paths = {", *paths, "},", "}")
    )


def _quoted(value: Any) -> str:
    return str(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False)


def _round(output: str) -> Round:
    results = [line for line in output.splitlines() if line.startswith("{")]
    if not results:
        raise NoLoadError(f"wrk ended early:\n{output}")
    result = json.loads(results[-1])
    if result["wrong"] or result["errors"]:
        raise NoLoadError(f"Not the answers that were to be measured: {results[-1]}")
    return Round(
        answers=result["answers"],
        per_second=result["answers"] / result["seconds"],
        p50=result["p50"],
        p95=result["p95"],
        p99=result["p99"],
    )
