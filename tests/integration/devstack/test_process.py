"""One child process: output, end, and no orphans."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from devstack.parent_death import is_alive, watch
from devstack.process import Account, Command, Process, ProcessFailedError, ignore_line, run_to_end
from tests.support.eventually import eventually

IS_ROOT = os.geteuid() == 0
SHORT = timedelta(milliseconds=200)
AMPLE = timedelta(seconds=10)

DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); {}"
WITH_GRANDCHILD = DEAF.format(
    "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
)
# Starts a child as the supervisor does, prints its pid and waits for its own end.
PARENT = """
import asyncio
from devstack.process import Command, Process

async def main() -> None:
    child = await Process.start("child", Command(("sleep", "60")), on_line=print)
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


def python(code: str) -> Command:
    return Command((sys.executable, "-c", code))


async def test_output_arrives_line_by_line_and_whole_at_the_end() -> None:
    lines: list[str] = []
    code = "import sys; print('one'); print('two', file=sys.stderr); print('three', end='')"
    process = await Process.start("p", python(code), on_line=lines.append)
    assert await process.wait() == 0
    assert sorted(lines) == ["one", "three", "two"]


async def test_lines_of_any_length_and_any_bytes() -> None:
    lines: list[str] = []
    code = "import sys; sys.stdout.buffer.write(b'x' * 3_000_000 + b'\\n\\xff\\r\\n')"
    process = await Process.start("p", python(code), on_line=lines.append)
    assert await process.wait() == 0
    assert sum(map(len, lines[:-1])) == 3_000_000
    assert lines[-1] == "\N{REPLACEMENT CHARACTER}"


async def test_the_polite_end_by_the_signal() -> None:
    process = await Process.start("p", Command(("sleep", "60")), on_line=ignore_line)
    assert await process.stop(grace=AMPLE) == -signal.SIGTERM
    assert await process.stop(grace=AMPLE) == -signal.SIGTERM, "once more does no harm"


async def test_the_deaf_are_killed_with_all_they_started() -> None:
    process = await Process.start("p", python(WITH_GRANDCHILD), on_line=ignore_line)
    grandchild = int(await eventually(second_line(process)))
    assert await process.stop(grace=SHORT) == -signal.SIGKILL
    await eventually(gone(grandchild))


async def test_a_failing_command_is_quoted() -> None:
    with pytest.raises(ProcessFailedError, match=r"exit code 3:\nwhy"):
        await run_to_end("it", python("print('why'); raise SystemExit(3)"), deadline=AMPLE)


async def test_a_command_that_does_not_exist_is_named() -> None:
    with pytest.raises(ProcessFailedError, match="cannot run /no/such/program"):
        await run_to_end("it", Command(("/no/such/program",)), deadline=AMPLE)


async def test_a_command_that_takes_too_long_is_killed() -> None:
    with pytest.raises(ProcessFailedError, match="took longer than"):
        await run_to_end("it", Command(("sleep", "60")), deadline=SHORT)


@pytest.mark.skipif(not IS_ROOT, reason="only root may become another user")
async def test_it_runs_as_the_account_and_no_group_of_ours() -> None:
    account = Account(user_id=65_534, group_id=65_534)
    command = Command(("id",), directory=Path("/"), account=account)
    output = await run_to_end("id", command, deadline=AMPLE)
    assert "uid=65534" in output
    assert "(root)" not in output


@pytest.mark.skipif(sys.platform != "linux", reason="the others poll, which has its own test")
async def test_killing_the_parent_ends_the_child() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    await parent.wait()
    await eventually(gone(child))


def test_where_the_kernel_does_not_help_a_watcher_ends_the_child() -> None:
    parent, child = sleeping(), sleeping()
    try:
        parent.kill()
        parent.wait()
        watch(parent.pid, child.pid, signal.SIGTERM)
        assert child.wait(timeout=5) == -signal.SIGTERM
    finally:
        child.kill()


def test_the_watcher_ends_with_the_child() -> None:
    child = sleeping()
    child.kill()
    child.wait()
    began = time.monotonic()
    watch(os.getpid(), child.pid, signal.SIGTERM)
    assert time.monotonic() - began < 1


def sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def gone(pid: int) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return not is_alive(pid)

    return probe


def second_line(process: Process) -> Callable[[], Awaitable[str]]:
    async def probe() -> str:
        lines = process.tail.splitlines()
        return lines[1] if len(lines) > 1 else ""

    return probe
