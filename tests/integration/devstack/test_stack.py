"""`python -m devstack` as a process: real servers and stand-ins around services that do nothing."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from dotenv import dotenv_values

from devstack.data_directory import scratch_directory
from devstack.free_ports import free_port
from devstack.service import answers_ok
from tests.support.eventually import eventually

REPOSITORY = Path(__file__).parents[3]
FAKE_SERVICE = Path(__file__).with_name("fake_service.py")
STOP_LIMIT = 10.0
IMPATIENCE = 5.0
PATIENCE = timedelta(seconds=40)  # a busy machine

# With these the stack starts no servers and no stand-ins, and the fake services need none.
ALL_GIVEN = {
    "SUPABASE_CONNECTION_STRING": "postgresql://postgres@127.0.0.1:9/leads",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "SUPABASE_URI": "http://127.0.0.1:9",
    "SUPABASE_KEY": "key",
    "RANDOMUSER_URL": "http://127.0.0.1:9/api/",
}
NOTHING_GIVEN: Mapping[str, str] = {}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@dataclass
class RunningStack:
    """The supervisor's process and what it has written so far."""

    process: asyncio.subprocess.Process
    port: int
    data: Path
    lines: list[str] = field(default_factory=list[str])

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())

    async def says(self, text: str) -> None:
        async def probe() -> bool:
            assert text in self.output, self.output
            return True

        await eventually(probe, within=PATIENCE)

    async def ends(self) -> int:
        async with asyncio.timeout(STOP_LIMIT):
            return await self.process.wait()


@pytest.fixture
def tree(scratch: Path) -> Path:
    return fake_tree(scratch)


def fake_tree(directory: Path) -> Path:
    """Make a checkout whose services and migrations are fakes."""
    tree = directory / "tree"
    tree.mkdir()
    for package in ("devstack", "shared"):
        (tree / package).symlink_to(REPOSITORY / package)
    for service in ("api", "syncer", "summarizer"):
        directory = tree / "services" / service
        directory.mkdir(parents=True)
        shutil.copyfile(FAKE_SERVICE, directory / "__main__.py")
    (tree / "ops").mkdir()
    (tree / "ops" / "__main__.py").write_text(
        f"import runpy, sys\n"
        f"if sys.argv[1] == 'exporter': runpy.run_path({str(FAKE_SERVICE)!r}, run_name='__main__')"
    )
    return tree


@asynccontextmanager
async def stack_in(
    tree: Path,
    *,
    port: int | None = None,
    given: Mapping[str, str] = NOTHING_GIVEN,
    **environment: str,
) -> AsyncGenerator[RunningStack]:
    data, port = tree.parent / "data", port or free_port()
    process = await start(tree, {**given, **environment}, data=data, port=port)
    stack = RunningStack(process, port, data)
    reader = asyncio.create_task(stack.read(), name="read the stack's output")
    try:
        yield stack
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await eventually(nothing_of(data))
        await reader


async def start(
    tree: Path, environment: Mapping[str, str], *, data: Path, port: int
) -> asyncio.subprocess.Process:
    variables = {"PATH": os.environ["PATH"], "PORT": str(port), "DATA_DIR": str(data)}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "devstack"),
        cwd=tree,
        env={**variables, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_from_start_to_sigterm(tree: Path) -> None:
    async with stack_in(tree, SYNCERS="2", GROQ="stand-in", LOG_LEVEL="DEBUG") as stack:
        await stack.says("Ready after")
        assert await answers_ok(stack.port, "/health/ready")
        started = r"^{} +\| 03:04:05.678 info +service.started"
        for name in ("api", "syncer", "syncer.2", "summarizer"):
            assert re.search(started.format(name), stack.output, re.MULTILINE)
        # Nobody waits for it.
        await eventually(lambda: _is_said(stack, started.format("exporter")))
        assert "curl http://localhost:" in stack.output
        stack.process.send_signal(signal.SIGTERM)
        assert await stack.ends() == 0
        await eventually(nothing_of(stack.data))
        stopped = [line.split()[0] for line in stack.lines if "service.stopped" in line]
        assert stopped[:2] == ["exporter", "api"]
        assert sorted(stopped[2:]) == ["summarizer", "syncer", "syncer.2"]


async def _is_said(stack: RunningStack, pattern: str) -> bool:
    return re.search(pattern, stack.output, re.MULTILINE) is not None


@pytest.fixture(scope="module")
async def ready() -> AsyncGenerator[RunningStack]:
    """Yield a stack that runs, for tests after which it still does."""
    with scratch_directory() as directory:
        async with stack_in(fake_tree(directory)) as stack:
            await stack.says("Ready after")
            yield stack


async def test_other_commands_find_the_running_stack(ready: RunningStack) -> None:
    settings = dotenv_values(ready.data / "stack.env")
    assert str(settings["SUPABASE_CONNECTION_STRING"]).startswith("postgresql://postgres:")
    assert str(settings["REDIS_URL"]).startswith("redis://:")
    assert str(settings["SUPABASE_KEY"]).startswith("sb_secret_")
    assert settings["API_KEY"]
    assert "PATH" not in settings


async def test_prometheus_finds_each_process(ready: RunningStack) -> None:
    groups = json.loads((ready.data / "targets.json").read_text())
    ports = {group["labels"]["job"]: group["targets"][0] for group in groups}
    assert [group["labels"]["job"] for group in groups] == [
        *("syncer", "summarizer", "api", "exporter")
    ]
    assert len(set(ports.values()) | {f"127.0.0.1:{ready.port}"}) == 5
    [hint] = [line for line in ready.lines if line.startswith("Metrics at")]
    for name, target in ports.items():
        assert f"{name} {target.removeprefix('127.0.0.1:')}" in hint
        if name != "api":  # the fake one has no port for it
            await eventually(partial(answers_ok, int(target.rpartition(":")[2]), "/health"))


async def test_a_second_stack_on_the_same_data_is_refused(ready: RunningStack) -> None:
    second = await start(
        ready.data.parent / "tree", NOTHING_GIVEN, data=ready.data, port=free_port()
    )
    output, _ = await second.communicate()
    assert second.returncode == 1
    assert f"is in use by the stack with pid {ready.process.pid}" in output.decode()
    assert await answers_ok(ready.port, "/health/ready")


async def test_a_service_or_server_that_dies_is_started_again(ready: RunningStack) -> None:
    (syncer,) = processes_with(str(ready.data), "services.syncer")
    (valkey,) = processes_with(str(ready.data / "valkey"))
    os.kill(syncer, signal.SIGKILL)
    os.kill(valkey, signal.SIGKILL)
    await ready.says("syncer ended unexpectedly (SIGKILL): starting it again")
    await ready.says("valkey ended unexpectedly (SIGKILL): starting it again")
    await eventually(another_than(syncer, str(ready.data), "services.syncer"))
    await eventually(another_than(valkey, str(ready.data / "valkey")))


async def test_kill_9_leaves_no_process_and_the_next_run_goes_on(tree: Path) -> None:
    async with stack_in(tree) as first:
        await first.says("Ready after")
        first.process.kill()
        await first.process.wait()
        await eventually(nothing_of(first.data))
        api_key = (first.data / "api_key").read_text()
    async with stack_in(tree) as second:
        await second.says("Ready after")
        assert (second.data / "api_key").read_text() == api_key


async def test_ctrl_c_while_starting(tree: Path) -> None:
    (tree / "ops" / "__main__.py").write_text("print('migrating'); import time; time.sleep(60)")
    async with stack_in(tree) as stack:
        await eventually(running(str(stack.data), "-m ops migrate"), within=PATIENCE)
        stack.process.send_signal(signal.SIGINT)
        assert await stack.ends() == 0
        await eventually(nothing_of(stack.data))


async def test_a_second_ctrl_c_does_not_wait_for_the_deaf(tree: Path) -> None:
    api = tree / "services" / "api" / "__main__.py"
    api.write_text(api.read_text().replace("signal.SIGTERM, end", "signal.SIGTERM, signal.SIG_IGN"))
    async with stack_in(tree, given=ALL_GIVEN) as stack:
        await stack.says("Ready after")
        stack.process.send_signal(signal.SIGINT)
        await stack.says("Once more to kill")
        stack.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(IMPATIENCE):
            assert await stack.process.wait() == 0


async def test_a_taken_port_is_refused_at_once(tree: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with stack_in(tree, port=port) as stack:
            assert await stack.ends() == 1
            await stack.says(f"port {port} cannot be used")
            await stack.says("make run PORT=")


async def test_failing_migrations_are_quoted(tree: Path) -> None:
    (tree / "ops" / "__main__.py").write_text("raise SystemExit('no such column')")
    async with stack_in(tree, given=ALL_GIVEN) as stack:
        assert await stack.process.wait() == 1
        await stack.says("no such column")
        await stack.says("Not ready: PostgreSQL at 127.0.0.1:9 refuses")
        await eventually(nothing_of(stack.data))


async def test_a_service_that_fails_at_its_start_is_started_again(tree: Path) -> None:
    program = tree / "services" / "api" / "__main__.py"
    flag = tree / "has-failed"
    fails_once = f"""
import pathlib, sys
flag = pathlib.Path({str(flag)!r})
if not flag.exists():
    flag.touch()
    sys.exit("nobody foresaw this")
"""
    program.write_text(fails_once + program.read_text())
    async with stack_in(tree, given=ALL_GIVEN) as stack:
        await stack.says("api ended unexpectedly (exit code 1): starting it again")
        await stack.says("Ready")
        assert not [line for line in stack.lines if line.startswith(("syncer ended", "Stopping"))]


async def test_wrong_settings_end_the_stack(tree: Path) -> None:
    refusal = "import sys; print('API_KEY: missing'); sys.exit(2)"
    (tree / "services" / "api" / "__main__.py").write_text(refusal)
    async with stack_in(tree, given=ALL_GIVEN) as stack:
        assert await stack.process.wait() == 1
        await stack.says("API_KEY: missing")
        await stack.says("api ended at its start")


async def test_what_is_not_ready_is_not_called_so_until_it_is(tree: Path) -> None:
    api = tree / "services" / "api" / "__main__.py"
    well = tree / "well"
    lacking = f"self.send_response(200 if __import__('os').path.exists({str(well)!r}) else 503)"
    api.write_text(api.read_text().replace("self.send_response(200)", lacking))
    async with stack_in(tree, given=ALL_GIVEN) as stack:
        await stack.says(
            "\nNot ready: PostgreSQL at 127.0.0.1:9 refuses (SUPABASE_CONNECTION_STRING)"
        )
        await stack.says("Redis at 127.0.0.1:9 refuses (REDIS_URL)")
        assert "Ready after" not in stack.output
        well.touch()
        await stack.says("\nReady after")


async def test_a_meaningless_variable_is_refused_at_once(tree: Path) -> None:
    async with stack_in(tree, SYNCERS="many") as stack:
        assert await stack.ends() == 1
        assert stack.output == "SYNCERS=many: expected a whole number from 1 to 64"


def processes_with(*texts: str) -> set[int]:
    """Returns the processes that have all texts among arguments, environment and directory.

    The servers overwrite the first two with a title, but work in the directory of their data.
    """
    found: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            output = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            text = output.replace(b"\0", b" ").decode(errors="replace")
            text += str((process / "cwd").readlink())
            if all(wanted in text for wanted in texts) and int(process.name) != os.getpid():
                found.add(int(process.name))
    return found


def nothing_of(data: Path) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        assert processes_with(str(data)) == set()
        return True

    return probe


def running(*texts: str) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return bool(processes_with(*texts))

    return probe


def another_than(pid: int, *texts: str) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return bool(processes_with(*texts) - {pid})

    return probe
