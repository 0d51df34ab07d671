"""Which of the servers that the environment names cannot be reached, and by which variable."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from devstack.environment import Plan

CONNECT_DEADLINE = timedelta(seconds=3)
PORTS = {"http": 80, "https": 443, "postgres": 5432, "postgresql": 5432, "redis": 6379}


@dataclass(frozen=True, slots=True)
class GivenServer:
    """A server that is not the stack's own."""

    name: str
    host: str
    port: int
    variable: str


def given_servers(plan: Plan) -> Iterator[GivenServer]:
    """Yields those whose address is that of one server; others are left to the services."""
    given = plan.given
    if plan.has_postgres:
        variable = "SUPABASE_CONNECTION_STRING"
        yield from server("PostgreSQL", given[variable], variable)
    if "REDIS_URL" in given:
        yield from server("Redis", given["REDIS_URL"], "REDIS_URL")
    elif plan.has_redis:
        port = given.get("REDIS_PORT", "6379")
        yield from server("Redis", f"redis://{given['REDIS_HOST']}:{port}", "REDIS_HOST")
    if plan.has_supabase_auth:
        yield from server("Supabase Auth", given["SUPABASE_URI"], "SUPABASE_URI")


def server(name: str, url: str, variable: str) -> Iterator[GivenServer]:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:  # several hosts, or a password that should have been percent-encoded
        return
    if parts.hostname and port:
        yield GivenServer(name, parts.hostname, port, variable)


async def unreachable(plan: Plan) -> list[str]:
    """Returns what is wrong with each server to which no connection can be made."""
    troubles = await asyncio.gather(*map(trouble, given_servers(plan)))
    return [one for one in troubles if one is not None]


async def trouble(one: GivenServer) -> str | None:
    try:
        async with asyncio.timeout(CONNECT_DEADLINE.total_seconds()):
            _reader, writer = await asyncio.open_connection(one.host, one.port)
    except OSError as error:
        return f"{one.name} at {one.host}:{one.port} {said(error)} ({one.variable})"
    writer.close()
    return None


def said(error: OSError) -> str:
    match error:
        case ConnectionRefusedError():
            return "refuses"
        case socket.gaierror():
            return "is not known"
        case TimeoutError():
            return "does not answer"
        case _:
            return "cannot be reached"
