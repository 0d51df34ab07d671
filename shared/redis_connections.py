"""How every client of Redis connects, and which of its errors are outages."""

import contextlib
import traceback
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from shared.background import cancellation_kept
from shared.domain.errors import UnavailableError
from shared.settings import SettingsError, StreamsSettings

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
        with cancellation_kept():
            yield
    except Exception as error:
        if not is_outage(error):
            raise
        reason = str(error) or type(error).__name__
        raise UnavailableError(f"Redis is unavailable: {reason}") from error


class LivePool(BlockingConnectionPool):
    """Never hands out a connection that died while it was idle, only to fail with it.

    The client's own check sees connections that were closed, but none that was reset.
    """

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        writer = connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] (no other way to ask)
        if writer is not None and writer.is_closing():
            await connection.disconnect(nowait=True)
        try:
            await super().ensure_connection(connection)
        except redis.ResponseError as error:
            # Whatever a server answers before the first command, it is none of the command's.
            raise redis.ConnectionError(str(error)) from error


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


async def refuse_cluster(redis: Redis) -> None:
    """Raise `SettingsError` when the server is a node of a Redis Cluster.

    It would answer every key of another node with MOVED. A server that is away is not asked.
    """
    with contextlib.suppress(UnavailableError), translated_errors():
        if (await redis.info("cluster")).get("cluster_enabled"):
            raise SettingsError(
                "REDIS_URL: names a node of a Redis Cluster. Streams need one server, or a "
                "Sentinel group: redis+sentinel://host:port,host:port/group"
            )


def connection_options(*, connect: timedelta, answer: timedelta | None) -> dict[str, Any]:
    """Return the options of a pool; `connect` and `answer` are how long each may take."""
    return {
        "protocol": 3,
        "legacy_responses": False,
        "socket_connect_timeout": connect.total_seconds(),
        "socket_timeout": None if answer is None else answer.total_seconds(),
        # A retried XADD would write twice: retries are the caller's to decide.
        "retry": Retry(NoBackoff(), 0),
        # Redis Enterprise's notices. While they are on, a closed connection counts as good.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


# What is our own defect: a wrong command, argument, type or script. BUSYGROUP is an answer that the
# caller handles. Everything else that a server says is an outage, also that a stream or a group is
# not there: it went with all data a moment ago, and is made anew by who works on it. A command that
# is not known or not allowed is the operator's, who may rename and forbid commands.
_DEFECTS = (
    "BUSYGROUP",
    "CROSSSLOT",
    "WRONGTYPE",
    "Error compiling script",
    "Invalid stream ID",
    "syntax error",
    "user_script:",
    "value is not",
    "Wrong number of args calling command from script",
    "wrong number of arguments",
)
# How the client begins the error of a command in a pipeline.
_IN_PIPELINE = "of pipeline caused error: "


def is_outage(error: BaseException) -> bool:
    """Return whether an error means that Redis cannot serve now.

    That includes any error of the client or of the network that is not shown to be a defect of
    ours: an error that no one listed must not end a process or park an event.
    """
    match error:
        case redis.DataError() | redis.WatchError():  # a wrong type; an answer for the caller
            return False
        case redis.ResponseError():
            message = str(error).rpartition(_IN_PIPELINE)[2].lstrip("('\"")
            return not message.startswith(_DEFECTS)
        case redis.RedisError() | OSError():
            return True
        case _:
            # A write to a connection that was reset a moment ago: uvloop raises RuntimeError,
            # asyncio's own loop TypeError (https://github.com/python/cpython/issues/136234).
            return isinstance(error, Exception) and _passed_through_client(error)


def _passed_through_client(error: Exception) -> bool:
    return any(
        str(frame.f_globals.get("__name__", "")).partition(".")[0] == "redis"
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def milliseconds(span: timedelta) -> int:
    """Return a span in Redis' unit."""
    return span // timedelta(milliseconds=1)
