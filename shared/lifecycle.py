"""A process's beginning and end: the same for every service."""

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeAlias, cast

import uvloop

from shared.events.envelope import new_id
from shared.settings import EXIT_MISCONFIGURED, SettingsError

# Of objects that are new and not gone. What a request makes is gone with it, nearly all without the
# collector, and is under way by the hundred: the usual 700 has it walk through these all the time.
COLLECT_AFTER = 20_000

# Libraries import these where they are installed, to have them if they are asked to, which they are
# not: structlog and httpx for coloured text, structlog for greenlets, redis-py for metrics of its
# own. They take 6 to 8 MB of each process, and a seventh of what it takes to import it.
UNUSED = ("click", "greenlet", "opentelemetry", "rich")

Main: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def start_service(module: str) -> None:
    """Import a service's module and run its `main` to its end."""
    run_service(main_of(module))


def main_of(module: str) -> Main:
    """Import a service's module, without what libraries have no use for, and return its `main`."""
    # Imports leave next to no garbage, and to look for it took a sixth of a start.
    gc.disable()
    with absent(*UNUSED):
        main: Main = importlib.import_module(module).main
    gc.enable()
    return main


@contextlib.contextmanager
def absent(*names: str) -> Generator[None]:
    """Have these fail to be imported within the block, as where they are not installed.

    See https://docs.python.org/3/reference/import.html#the-module-cache. What is imported already
    stays, and afterwards all can be imported: traces need OpenTelemetry.
    """
    modules = cast("dict[str, object]", sys.modules)
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]


def run_service(main: Main) -> None:
    """Run a service's `main` to its end; wrong settings end the process with a message."""
    # What has been imported stays: the collector need not walk through it again and again,
    # which would hold every request up for tens of milliseconds.
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    try:
        uvloop.run(main())
    except SettingsError as error:
        sys.stderr.write(f"Wrong settings:\n{error}\n")
        sys.exit(EXIT_MISCONFIGURED)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def instance_name(service: str) -> str:
    """Return `service:host:boot`, new with every start of a process."""
    return f"{service}:{socket.gethostname()}:{os.getpid()}-{new_id().hex[-8:]}"


@contextlib.asynccontextmanager
async def stop_signal() -> AsyncGenerator[asyncio.Event]:
    """Yield an event that is set by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
