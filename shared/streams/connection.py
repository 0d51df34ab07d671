"""Opening the Redis that carries the streams, and its errors in the domain's terms."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from shared.domain.errors import UnavailableError
from shared.redis_connections import LivePool, connection_options, is_outage
from shared.settings import StreamsSettings

# A blocked read answers late by as much as the server was busy; only then is it lost.
READ_GRACE = timedelta(seconds=1.5)

SENTINEL_SCHEME = "redis+sentinel://"
SENTINEL_PORT = 26379
SENTINEL_OPTIONS = ("protocol", "socket_connect_timeout", "socket_timeout", "retry")

# Callers beyond these wait for a connection; the server gains nothing from more.
MAX_CONNECTIONS = 16

# What a command answers when its group went with the stream, until the reader has made it anew.
GROUP_GONE = ("NOGROUP", "UNBLOCKED")


@contextlib.contextmanager
def translated_errors() -> Generator[None]:
    """Raise `UnavailableError` for every error of the client that is no defect of ours."""
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        reason = str(error) or type(error).__name__
        raise UnavailableError(f"Redis is unavailable: {reason}") from error


class LiveSentinelPool(SentinelConnectionPool, LivePool):
    """A `LivePool` of connections to whichever server is the master."""


@contextlib.asynccontextmanager
async def open_redis(
    settings: StreamsSettings, *, block: timedelta | None = None
) -> AsyncGenerator[Redis]:
    """Open a client that connects when first used and never retries by itself.

    Blocking reads get a client of their own (`block`: the longest wait), since they would
    starve other commands.
    """
    timeout = settings.redis_timeout.total_seconds()
    options = connection_options(
        connect=settings.redis_timeout,
        answer=settings.redis_timeout if block is None else block + READ_GRACE,
    )
    async with contextlib.AsyncExitStack() as stack:
        if settings.url.startswith(SENTINEL_SCHEME):
            sentinel, group = _sentinel(settings.url, options)
            for one in sentinel.sentinels:
                stack.push_async_callback(one.aclose)
            client: Redis = sentinel.master_for(
                group,
                connection_pool_class=LiveSentinelPool,
                max_connections=MAX_CONNECTIONS,
                timeout=timeout,
            )
        else:
            client = Redis.from_pool(
                LivePool.from_url(
                    settings.url, max_connections=MAX_CONNECTIONS, timeout=timeout, **options
                )
            )
        yield await stack.enter_async_context(client)


def _sentinel(url: str, options: dict[str, Any]) -> tuple[Sentinel, str]:
    """Return the sentinels that an address names, and the group whose master is wanted."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.rpartition(":")
    addresses = [host.rpartition(":") for host in hosts.split(",")]
    group, _, database = parts.path.strip("/").partition("/")
    open_sentinel: Callable[..., Sentinel] = Sentinel  # its constructor has no types
    sentinel = open_sentinel(
        [(host or port, int(port) if host else SENTINEL_PORT) for host, _, port in addresses],
        sentinel_kwargs={name: options[name] for name in SENTINEL_OPTIONS},
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=int(database or 0),
        **options,
    )
    return sentinel, group


async def ping(redis: Redis) -> None:
    """Ask for a sign of life."""
    with translated_errors():
        await redis.ping()
