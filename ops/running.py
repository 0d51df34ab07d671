"""How a command runs: its servers, and its failures as messages."""

import asyncio
import contextlib
import getpass
import os
import sys
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import structlog
from redis.asyncio import Redis

from ops.environment import settings
from shared.administration.doctor.examination import DoctorSettings
from shared.domain.errors import PermanentError, TransientError
from shared.redis_connections import open_redis
from shared.settings import (
    PostgresSettings,
    ProjectSettings,
    ReplicaSettings,
    SettingsError,
    StreamsSettings,
    load,
)
from shared.storage.pool import Database, open_database

# What a shell says of a command that Ctrl-C has ended.
INTERRUPTED = 130

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Servers:
    """What most commands work on."""

    redis: Redis
    database: Database


def doctor_settings() -> DoctorSettings:
    """Read what the doctor compares with; the auth server need not be known."""
    project: ProjectSettings | None = None
    with contextlib.suppress(SettingsError):
        project = load(ProjectSettings)
    return DoctorSettings(
        streams=settings(StreamsSettings),
        postgres=settings(PostgresSettings),
        replica=settings(ReplicaSettings),
        project=project,
    )


@contextlib.asynccontextmanager
async def open_servers() -> AsyncGenerator[Servers]:
    """Open Redis and PostgreSQL as the environment says."""
    async with (
        open_redis(settings(StreamsSettings)) as redis,
        open_database(settings(PostgresSettings)) as database,
    ):
        yield Servers(redis, database)


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work; expected failures end it with their message."""
    # Standard output is the command's own, perhaps a pipe to another program.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        return asyncio.run(main)
    except (TransientError, PermanentError) as error:
        raise click.ClickException(str(error)) from error


def operator() -> str:
    """Return the user who runs the command, for the log; with sudo, both users."""
    caller = os.environ.get("SUDO_USER")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no name for this user id
        user = str(os.getuid())
    return f"{caller} as {user}" if caller else user
