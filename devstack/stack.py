"""Composes the whole stack out of a plan: servers and stand-ins, migrations, services."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from devstack.console import Console, banner
from devstack.data_directory import kept_secret, locked, write_stack_file, write_targets
from devstack.environment import API_KEY_FILE, PARTS, Groq, Plan, StandIns, services_environment
from devstack.free_ports import LOOPBACK, free_ports, require_free
from devstack.given_servers import unreachable
from devstack.process import Command, ProcessFailedError, run_to_end
from devstack.servers.postgres import EmbeddedPostgres
from devstack.servers.server import EmbeddedServer
from devstack.servers.valkey import EmbeddedValkey
from devstack.service import (
    READY_DEADLINE,
    Service,
    ServiceSpec,
    module,
    what_is_lacking,
)
from devstack.supervisor import Supervisor, supervising

# Of a large database it may take long, which is shown once it does.
MIGRATE_DEADLINE = timedelta(hours=6)
MIGRATES_LONG = timedelta(seconds=5)
STAND_IN_GRACE = timedelta(seconds=1)
READY_PATH = "/health/ready"
LIVE_PATH = "/health"
# How long services are waited for that lack a server: long enough to start.
BARELY = timedelta(seconds=5)


async def run_stack(plan: Plan, console: Console) -> None:
    """Runs until cancelled, then ends all it started.

    The `CannotRunError` may come in an ExceptionGroup.
    """
    began = time.monotonic()
    with locked(plan.data):
        require_free(plan.port)
        async with supervising(say=console.say) as supervisor:
            stand_ins = await start_surroundings(plan, console, supervisor)
            api_key = plan.given.get("API_KEY") or kept_secret(plan.data / API_KEY_FILE)
            environment = services_environment(plan, stand_ins, api_key=api_key)
            write_stack_file(plan.data, worth_keeping(environment))
            troubles = await unreachable(plan)
            await migrate(environment, troubles, console)
            specs = list(service_specs(plan, environment))
            metrics = [(service_of(spec), int(spec.environment["HEALTH_PORT"])) for spec in specs]
            write_targets(plan.data, metrics)
            late = await start_services(specs, console, supervisor, troubles)
            title = f"Not ready: {await reasons(late, troubles)}" if late else ready_after(began)
            console.say(
                banner(
                    plan, stand_ins, title=title, metrics=metrics, is_coloured=console.is_coloured
                )
            )
            if late:
                await until_ready(late)
                console.say(f"\n{ready_after(began)}\n")
            await asyncio.Event().wait()


async def start_surroundings(plan: Plan, console: Console, supervisor: Supervisor) -> StandIns:
    surroundings = Surroundings(plan, console)
    await supervisor.start(surroundings.servers, surroundings.stand_ins)
    for late in await not_ready(surroundings.stand_ins, within=READY_DEADLINE):
        raise ProcessFailedError(f"{late.name} does not get ready")
    for notice in surroundings.notices:
        console.say(notice)
    return surroundings.where()


class Surroundings:
    """Created, not started: `servers` and `stand_ins` are for the supervisor."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._ports = free_ports(besides=plan.port)
        self._postgres = None if plan.has_postgres else self._new_postgres()
        self._valkey = None if plan.has_redis else self._new_valkey()
        self._auth = None if plan.has_supabase_auth else self._stand_in("supabase_auth")
        self._randomuser = None if plan.has_randomuser else self._stand_in("randomuser")
        self._groq = self._stand_in("groq") if plan.groq is Groq.STAND_IN else None

    @property
    def servers(self) -> list[EmbeddedServer]:
        return [server for server in (self._postgres, self._valkey) if server]

    @property
    def stand_ins(self) -> list[Service]:
        return [service for service in (self._auth, self._randomuser, self._groq) if service]

    @property
    def notices(self) -> list[str]:
        moved = self._postgres.notice if self._postgres else None
        return [*self._plan.notices, *([moved] if moved else [])]

    def where(self) -> StandIns:
        """Returns the addresses, once all is ready."""
        return StandIns(
            postgres=self._postgres.dsn if self._postgres else None,
            redis=self._valkey.url if self._valkey else None,
            supabase_uri=origin(self._auth) if self._auth else None,
            supabase_key=self._service_key() if self._auth else None,
            randomuser=f"{origin(self._randomuser)}/api/" if self._randomuser else None,
            groq=origin(self._groq) if self._groq else None,
        )

    def _new_postgres(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(
            self._plan.data / "postgres",
            port=next(self._ports),
            on_line=self._console.sink("postgres"),
        )

    def _new_valkey(self) -> EmbeddedValkey:
        return EmbeddedValkey(
            self._plan.data / "valkey",
            port=next(self._ports),
            on_line=self._console.sink("valkey"),
        )

    def _stand_in(self, name: str) -> Service:
        port = next(self._ports)
        data = self._directory(name)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {
            **self._plan.given,
            "ENV_FILE": "",
            "STANDIN_PORT": str(port),
            "STANDIN_DATA_DIR": str(data),
        }
        arguments = module(f"devstack.standins.{name}")
        spec = ServiceSpec(name, arguments, environment, port, "/health", grace=STAND_IN_GRACE)
        return Service(spec, on_line=self._console.sink(name))

    def _directory(self, name: str) -> Path:
        return self._plan.data / name

    def _service_key(self) -> str:
        return (self._directory("supabase_auth") / "service_key").read_text().strip()


def origin(service: Service) -> str:
    return f"http://{LOOPBACK}:{service.spec.port}"


async def migrate(environment: Mapping[str, str], troubles: list[str], console: Console) -> None:
    command = Command((*module("ops"), "migrate"), environment=environment)
    long = time.monotonic() + MIGRATES_LONG.total_seconds()
    show = console.sink("migrate")
    try:
        await run_to_end(
            "the migration of the database",
            command,
            deadline=MIGRATE_DEADLINE,
            on_line=lambda line: show(line) if time.monotonic() > long else None,
        )
    except ProcessFailedError as error:
        if not troubles:
            raise
        raise ProcessFailedError(f"{error}\nNot ready: {'; '.join(troubles)}") from error


async def start_services(
    specs: Sequence[ServiceSpec],
    console: Console,
    supervisor: Supervisor,
    troubles: list[str],
) -> list[Service]:
    """Returns those that are not ready in time; where a server is away, that is soon over."""
    services = [Service(spec, on_line=console.sink(spec.name)) for spec in specs]
    apis = [one for one in services if service_of(one.spec) == "api"]
    exporters = [one for one in services if service_of(one.spec) == "exporter"]
    workers = [one for one in services if one not in (*apis, *exporters)]
    # In this order, so that the API stops before: its last requests still get their replies.
    await supervisor.start(workers, apis)
    late = await not_ready([*workers, *apis], within=BARELY if troubles else READY_DEADLINE)
    # Nobody waits for it, and the others would for what its start takes.
    await supervisor.start(exporters)
    return late


async def reasons(late: list[Service], troubles: list[str]) -> str:
    """Returns why services are not ready: servers that are away, or what they say themselves."""
    return "; ".join(troubles or [await what_is_lacking(service) for service in late])


async def until_ready(services: list[Service]) -> None:
    """Waits for as long as it takes."""
    while late := await not_ready(services, within=READY_DEADLINE):
        services = late


def ready_after(began: float) -> str:
    return f"Ready after {time.monotonic() - began:.1f} s"


def service_specs(plan: Plan, environment: Mapping[str, str]) -> Iterator[ServiceSpec]:
    """Yields all copies of all services, each with a port of its own for health and metrics."""
    ports = free_ports(besides=plan.port)
    counts = {"syncer": plan.syncers, "summarizer": plan.summarizers, "api": plan.api_workers}
    for service, count in counts.items():
        for name in copy_names(service, count):
            port = next(ports)
            own = {**environment, "HEALTH_PORT": str(port)}
            asked = plan.port if service == "api" else port
            yield ServiceSpec(name, module(f"services.{service}"), own, asked, READY_PATH)
    port = next(ports)
    own = {**environment, "HEALTH_PORT": str(port)}
    # It is well whatever it can read.
    yield ServiceSpec("exporter", (*module("ops"), "exporter"), own, port, LIVE_PATH)


def service_of(spec: ServiceSpec) -> str:
    return spec.name.partition(".")[0]


def copy_names(service: str, count: int) -> list[str]:
    return [service, *(f"{service}.{number}" for number in range(2, count + 1))]


async def not_ready(services: list[Service], *, within: timedelta) -> list[Service]:
    """Waits for all and returns those that take too long."""
    async with asyncio.TaskGroup() as group:
        waits = [
            group.create_task(service.ready(within=within), name=f"await {service.name}")
            for service in services
        ]
    return [service for service, wait in zip(services, waits, strict=True) if not wait.result()]


def worth_keeping(environment: Mapping[str, str]) -> dict[str, str]:
    """Leaves out what a second terminal has anyway, such as PATH."""
    return {
        name: value
        for name, value in environment.items()
        if name in PARTS or os.environ.get(name) != value
    }
