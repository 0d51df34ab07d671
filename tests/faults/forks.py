"""Syncers that are started again whenever they die, as their owner sees them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shared.settings import PostgresSettings, StreamsSettings
from tests.faults.system import inherited, say
from tests.support.forked_process import start_forked


@asynccontextmanager
async def forks(
    role: str,
    postgres: PostgresSettings,
    streams: StreamsSettings,
    *,
    number: int,
    **environment: str,
) -> AsyncGenerator[None]:
    """Run so many syncers in a role of `forked_syncers`, impatient ones, and kill them all."""
    settings = {
        **inherited(),
        "ENV_FILE": "",
        "LOG_LEVEL": "ERROR",
        "SUPABASE_CONNECTION_STRING": postgres.dsn,
        "REDIS_URL": streams.url,
        "SYNC_ENABLED": "false",
        "STREAM_LEASE": "0.3",
        "STREAM_BLOCK": "0.1",
        "STREAM_MAX_ATTEMPTS": "2",
    }
    process = await start_forked(
        role,
        *("tests.faults.forked_syncers", role, str(number)),
        environment=settings | environment,
        on_line=lambda line: say(role, line),
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()
