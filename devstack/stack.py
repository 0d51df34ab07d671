"""Composes the whole stack out of a plan: servers and stand-ins, migrations, services."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta

from devstack.banner import banner
from devstack.console import Console
from devstack.data_directory import locked, write_stack_file
from devstack.environment import API_KEY_FILE, PARTS, Plan, StandIns, services_environment
from devstack.free_ports import free_ports, require_free
from devstack.process import Command, ProcessFailedError, run_to_end
from devstack.secret_files import kept_secret
from devstack.service import Service, ServiceSpec, module
from devstack.supervisor import Supervisor, supervising
from devstack.surroundings import Surroundings

MIGRATE_DEADLINE = timedelta(seconds=120)
READY_PATH = "/health/ready"


async def run_stack(plan: Plan, console: Console) -> None:
    """Runs until cancelled, and leaves nothing behind.

    Raises what keeps the stack from running, by itself or in an ExceptionGroup.
    """
    began = time.monotonic()
    with locked(plan.data):
        require_free(plan.port)
        async with supervising(say=console.say) as supervisor:
            stand_ins = await start_surroundings(plan, console, supervisor)
            api_key = plan.given.get("API_KEY") or kept_secret(plan.data / API_KEY_FILE)
            environment = services_environment(plan, stand_ins, api_key=api_key)
            write_stack_file(plan.data, worth_keeping(environment))
            await migrate(environment)
            await start_services(plan, environment, console, supervisor)
            seconds = time.monotonic() - began
            console.say(banner(plan, stand_ins, seconds=seconds, is_coloured=console.is_coloured))
            await asyncio.Event().wait()


async def start_surroundings(plan: Plan, console: Console, supervisor: Supervisor) -> StandIns:
    surroundings = Surroundings(plan, console)
    await supervisor.start(surroundings.servers, surroundings.stand_ins)
    for late in await not_ready(surroundings.stand_ins):
        raise ProcessFailedError(f"{late} does not get ready")
    for notice in surroundings.notices:
        console.say(notice)
    return surroundings.where()


async def migrate(environment: Mapping[str, str]) -> None:
    command = Command((*module("ops"), "migrate"), environment=environment)
    await run_to_end("the migration of the database", command, deadline=MIGRATE_DEADLINE)


async def start_services(
    plan: Plan, environment: Mapping[str, str], console: Console, supervisor: Supervisor
) -> None:
    workers = [
        Service(spec, on_line=console.sink(spec.name)) for spec in worker_specs(plan, environment)
    ]
    apis = [Service(spec, on_line=console.sink(spec.name)) for spec in api_specs(plan, environment)]
    # In this order, so that the API stops first: its last requests still get their replies.
    await supervisor.start(workers, apis)
    for late in await not_ready([*workers, *apis]):
        console.say(f"{late} runs but is not ready yet: see its lines above")


def worker_specs(plan: Plan, environment: Mapping[str, str]) -> Iterator[ServiceSpec]:
    ports = free_ports(besides=plan.port)
    for service, count in (("syncer", plan.syncers), ("summarizer", plan.summarizers)):
        for name in copy_names(service, count):
            port = next(ports)
            own = {"HEALTH_PORT": str(port)}
            yield ServiceSpec(
                name, module(f"services.{service}"), {**environment, **own}, port, READY_PATH
            )


def api_specs(plan: Plan, environment: Mapping[str, str]) -> Iterator[ServiceSpec]:
    for name in copy_names("api", plan.api_workers):
        yield ServiceSpec(name, module("services.api"), environment, plan.port, READY_PATH)


def copy_names(service: str, count: int) -> list[str]:
    return [service, *(f"{service}.{number}" for number in range(2, count + 1))]


async def not_ready(services: list[Service]) -> list[str]:
    """Waits for all and returns the names of those that take too long."""
    async with asyncio.TaskGroup() as group:
        waits = {
            service.name: group.create_task(service.ready(), name=f"await {service.name}")
            for service in services
        }
    return [name for name, wait in waits.items() if not wait.result()]


def worth_keeping(environment: Mapping[str, str]) -> dict[str, str]:
    """Leaves out what a second terminal has anyway, such as PATH."""
    return {
        name: value
        for name, value in environment.items()
        if name in PARTS or os.environ.get(name) != value
    }
