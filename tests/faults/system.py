"""The whole system as processes on real servers, with a misbehaving network in between."""

import asyncio
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from yarl import URL

from devstack.free_ports import LOOPBACK, free_ports
from devstack.servers.postgres import EmbeddedPostgres
from devstack.servers.valkey import EmbeddedValkey
from devstack.service import Service, ServiceSpec, module
from shared.storage.migrations.runner import migrate
from tests.faults.scale import scaled
from tests.support.forked_process import ForkedService
from tests.support.standin_control import StandInControl
from tests.support.tcp_proxy import TcpProxy

POSTGRES, VALKEY, AUTH, GROQ, SOURCE = "postgres", "valkey", "supabase_auth", "groq", "randomuser"
STAND_INS = (AUTH, GROQ, SOURCE)
APIS = ("api.1", "api.2")
SYNCERS = ("syncer.1", "syncer.2")
SUMMARIZER = "summarizer.1"
SERVICES = (*SYNCERS, SUMMARIZER, *APIS)

# Room for about a thousand leads, or ten thousand.
STREAM_MAX_BYTES = scaled(600_000, 6_000_000)

# Production's deadlines towards clients; shorter ones where a test would only wait.
SETTINGS = {
    "ENV_FILE": "",
    "LOG_LEVEL": "WARNING",
    "HEALTH_HOST": LOOPBACK,
    "API_HOST": LOOPBACK,
    "RATE_LIMIT": "off",
    "SYNC_ENABLED": "false",
    "STREAM_LEASE": "1",
    "STREAM_BLOCK": "0.2",
    "STREAM_MAX_BYTES": str(STREAM_MAX_BYTES),
    "SUMMARY_PROVIDER": "groq",
    "SUMMARY_DEADLINE": "8",
    "SUMMARY_TIMEOUT": "3",
    "AUTH_TIMEOUT": "2",
    "SYNC_TIMEOUT": "2",
    "GROQ_API_KEY": "stand-in",
    "GROQ_TIMEOUT": "3",
    "GROQ_REQUESTS_PER_MINUTE": "0",
    "GROQ_TOKENS_PER_MINUTE": "0",
}


class Component(Protocol):
    """A server, stand-in or service."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...


class System:
    """Servers and stand-ins, each with a proxy in front, and services that know the proxies.

    Use through `open_system`. What was stopped or killed stays so until `repair`. `output` is what
    each service has written.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self._directory = directory
        self._settings = dict(settings)
        self.output: dict[str, list[str]] = defaultdict(list)
        self._ports = free_ports()
        # Nothing that was acknowledged may be lost by a kill, so nothing is written lazily.
        self.valkey = EmbeddedValkey(directory / VALKEY, appendfsync="always")
        self.postgres = EmbeddedPostgres(directory / POSTGRES, fsync=False)
        self.components: dict[str, Component] = {VALKEY: self.valkey, POSTGRES: self.postgres}
        self.links: dict[str, TcpProxy] = {}
        self.environment: dict[str, str] = {}
        self.services: dict[str, Service] = {}
        self._targets: dict[str, int] = {}
        self._is_down: set[str] = set()

    async def open(self, stack: AsyncExitStack) -> None:
        """Start everything; what was started is killed with the stack."""
        stand_ins = {name: self._stand_in(name) for name in STAND_INS}
        self.components |= stand_ins
        await self._start(stack, [VALKEY, POSTGRES, *STAND_INS])
        self._targets = {name: one.spec.port for name, one in stand_ins.items()}
        self._targets |= {VALKEY: self.valkey.port, POSTGRES: self.postgres.port}
        for name, port in self._targets.items():
            self.links[name] = await stack.enter_async_context(TcpProxy(port))
        await asyncio.to_thread(migrate, self.postgres.dsn)
        self.environment = self._services_environment()
        for name in SERVICES:
            self.services[name] = self.service(name)
        self.components |= self.services
        await self._start(stack, SERVICES)
        await self.ready(SERVICES)

    def service(self, name: str, **changes: str) -> Service:
        """Return a service that is not started: one more process, `api.3` for instance."""
        port = next(self._ports)
        own = {"HEALTH_PORT": str(port)}
        if name.startswith("api"):
            own = {"PORT": str(port), "HEALTH_PORT": str(next(self._ports))}
        return ForkedService(
            ServiceSpec(
                name=name,
                arguments=module(f"services.{name.partition('.')[0]}"),
                environment=self.environment | own | changes,
                port=port,
                ready_path="/health/ready",
            ),
            on_line=lambda line: self._note(name, line),
        )

    def _note(self, name: str, line: str) -> None:
        self.output[name].append(line)
        say(name, line)

    def address(self, name: str) -> str:
        """Return where an API listens."""
        return f"http://{LOOPBACK}:{self.services[name].spec.port}"

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a service a signal: SIGSTOP and SIGCONT for a process that sleeps a while."""
        os.kill(self.services[name].pid, number)

    def control(self, stand_in: str) -> StandInControl:
        """Return what makes a stand-in misbehave."""
        return StandInControl(f"http://{LOOPBACK}:{self._targets[stand_in]}")

    async def ready(self, names: Iterable[str]) -> None:
        """Wait until these services are ready."""
        late = [name for name in names if not await self.services[name].ready()]
        assert not late, f"not ready: {late}"

    async def kill(self, name: str) -> None:
        """End a component with SIGKILL."""
        self._is_down.add(name)
        await self.components[name].kill()

    async def stop(self, *names: str) -> None:
        """Ask components to end, and wait for it."""
        self._is_down.update(names)
        await asyncio.gather(*(self.components[name].stop() for name in names))

    async def start(self, *names: str) -> None:
        """Start components again; servers have answered then, services may not be ready yet."""
        await asyncio.gather(*(self.components[name].start() for name in names))
        self._is_down.difference_update(names)

    @property
    def crashed(self) -> list[str]:
        """The services that ended by themselves."""
        running = {name for name in SERVICES if self.services[name].is_running}
        return [name for name in SERVICES if name not in running | self._is_down]

    async def repair(self) -> None:
        """Heal the network and have everything running and ready."""
        for link in self.links.values():
            link.heal()
        await self.start(*self._is_down, *self.crashed)
        await self.ready(SERVICES)

    async def _start(self, stack: AsyncExitStack, names: Sequence[str]) -> None:
        for name in names:
            stack.push_async_callback(self.components[name].kill)
        await asyncio.gather(*(self.components[name].start() for name in names))

    def _stand_in(self, name: str) -> Service:
        port = next(self._ports)
        data = self._directory / name
        data.mkdir(mode=0o700)
        environment = inherited() | {"STANDIN_PORT": str(port), "STANDIN_DATA_DIR": str(data)}
        return ForkedService(
            ServiceSpec(name, module(f"devstack.standins.{name}"), environment, port, "/health"),
            on_line=lambda line: say(name, line),
        )

    def _services_environment(self) -> dict[str, str]:
        dsn = URL(self.postgres.dsn).with_port(self.links[POSTGRES].port)
        redis = URL(self.valkey.url).with_port(self.links[VALKEY].port)
        origins = {name: f"http://{LOOPBACK}:{self.links[name].port}" for name in STAND_INS}
        return (
            inherited()
            | SETTINGS
            | self._settings
            | {
                "SUPABASE_CONNECTION_STRING": str(dsn),
                "REDIS_URL": str(redis),
                "SUPABASE_URI": origins[AUTH],
                "SUPABASE_KEY": (self._directory / AUTH / "service_key").read_text().strip(),
                "GROQ_BASE_URL": origins[GROQ],
                "RANDOMUSER_URL": f"{origins[SOURCE]}/api/",
            }
        )


@asynccontextmanager
async def open_system(directory: Path, **settings: str) -> AsyncGenerator[System]:
    """Start a system in an empty directory, and end it with the block."""
    system = System(directory, settings)
    async with AsyncExitStack() as stack:
        await system.open(stack)
        yield system


def inherited() -> dict[str, str]:
    """Return what a process of ours needs of this one's environment."""
    return {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}


def say(name: str, line: str) -> None:
    """Have pytest show what a process wrote, when the test fails."""
    sys.stdout.write(f"{name} | {line}\n")
