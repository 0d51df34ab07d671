"""How every client of Redis connects, and what it does at less cost than the library's own."""

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlunsplit

import hiredis
import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import MovedError
from redis.maint_notifications import MaintNotificationsConfig

from shared.background import cancellation_kept
from shared.connection_strings import bracketed, parse_sentinel_address, redis_hosts, split_url
from shared.domain.errors import UnavailableError
from shared.observability.metrics import DB_SECONDS
from shared.redis_cluster import ClusterPipeline, ClusterRedis
from shared.redis_errors import is_outage, without_command
from shared.redis_slots import Address
from shared.settings import MOST_PARTITIONS, SettingsError, StreamsSettings

# A blocked read answers late by as much as the server was busy; only then is it lost.
READ_GRACE = timedelta(seconds=1.5)

SENTINEL_SCHEME = "redis+sentinel://"
SENTINEL_OPTIONS = ("protocol", "socket_connect_timeout", "socket_timeout", "retry")

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
SAY_CLUSTER = (
    "names a node of a Redis Cluster. Say redis+cluster://host:port,host:port with one or more of "
    "its nodes (rediss+cluster:// for TLS)"
)

# Each connection would look for the library's version among the installed packages.
_DRIVER = DriverInfo()

# Callers beyond these wait for a connection; the server gains nothing from more.
MAX_CONNECTIONS = 16


@contextlib.contextmanager
def translated_errors() -> Generator[None]:
    """Raise `UnavailableError` for every error of the client that is no defect of ours."""
    try:
        with cancellation_kept():
            yield
    except Exception as error:
        if not is_outage(error):
            raise
        reason = without_command(str(error)) or type(error).__name__
        if isinstance(error, MovedError):
            reason = f"the address {SAY_CLUSTER}"
        raise UnavailableError(f"Redis is unavailable: {reason}", dependency="redis") from error


_USES = DB_SECONDS.labels("redis", "command", "")


# Its stub knows commands of one part only.
_pack = cast("Callable[[tuple[Any, ...]], bytes]", hiredis.pack_command)


class LeanSending:
    """Packs commands in C, as the client's blocking connections do, and sends them as they are.

    To pack an event takes 4 us where it took 60, and no write makes a task and a timer of its own.
    """

    async def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 (the library's)
        """Send what is packed; raises the client's `ConnectionError` or `TimeoutError`."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()
        writer: asyncio.StreamWriter = self._writer
        try:
            writer.writelines([command] if isinstance(command, bytes) else command)
            if writer.transport.get_write_buffer_size():  # else the reply says if it is lost
                async with asyncio.timeout(self.socket_timeout):
                    await writer.drain()
        except BaseException as error:
            # A part may have been sent, so nothing else can follow it.
            await self.disconnect(nowait=True)
            if not isinstance(error, Exception):
                raise
            # With a connection that was reset the event loops raise what looks like a defect.
            kind = redis.TimeoutError if isinstance(error, TimeoutError) else redis.ConnectionError
            raise kind(f"Error while writing to the server: {error}") from error

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command as it is sent. Raises `DataError` for what no server takes."""
        if len(words := args[0].split()) > 1:  # as in CONFIG GET
            args = (*words, *args[1:])
        try:
            return [_pack(args)]
        except TypeError as error:
            raise redis.DataError(str(error)) from error

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Return commands as they are sent, all in one piece."""
        return [b"".join(part for command in commands for part in self.pack_command(*command))]


@functools.cache
def _lean(kind: Any) -> Any:
    return type(kind.__name__, (LeanSending, kind), {})


class LeanPipeline(Pipeline):
    """Sends what is queued in one go, and reads all replies within one deadline.

    The library's own sets a timer for each reply, and takes three times as long with ten of them.
    What it does besides (transactions, watched keys, scripts) is left to it.
    """

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 (the library's)
        """Send what is queued; returns the replies, errors among them if none is raised."""
        commands = self.command_stack
        has_transaction = self.is_transaction or self.explicit_transaction or self.watching
        if not commands or has_transaction or self.scripts:
            return await super().execute(raise_on_error)
        self.command_stack = []
        pool: Any = self.connection_pool
        connection = await pool.get_connection()
        try:
            replies = await _exchange(connection, [args for args, _ in commands])
        finally:
            await pool.release(connection)
        if raise_on_error:
            self.raise_first_error(commands, replies)
        return [
            self._converted(reply, args[0], options)
            for reply, (args, options) in zip(replies, commands, strict=True)
        ]

    def _converted(self, reply: Any, name: Any, options: Mapping[str, Any]) -> Any:
        convert = self.response_callbacks.get(name)
        if convert is None or isinstance(reply, Exception):
            return reply
        # `keys` are for a cache on the client's side.
        return convert(reply, **{k: v for k, v in options.items() if k != "keys"})


async def _exchange(connection: AbstractConnection, commands: Sequence[Sequence[Any]]) -> list[Any]:
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    try:
        async with asyncio.timeout(connection.socket_timeout):
            for _ in commands:
                try:
                    replies.append(await connection.read_response(timeout=math.inf))
                except redis.ResponseError as error:
                    replies.append(error)
    except TimeoutError:
        raise redis.TimeoutError("Timeout reading from the server") from None
    return replies


class LeanRedis(Redis):
    """A client with such pipelines."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002 (the library's)
        """Return a pipeline that is yet to be filled and sent."""
        return LeanPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class LivePool(BlockingConnectionPool):
    """Never hands out a connection that died while it was idle, only to fail with it.

    The client's own check sees connections that were closed, but none that was reset.
    """

    def __init__(self, *, is_measured: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self._is_measured = is_measured
        self._waiting = 0

    def make_connection(self) -> AbstractConnection:
        kind: Any = self.connection_class
        connection: AbstractConnection = _lean(kind)(**self.connection_kwargs)
        return connection

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        writer = connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] (no other way to ask)
        if writer is not None and writer.is_closing():
            await connection.disconnect(nowait=True)
        try:
            await super().ensure_connection(connection)
        except redis.ResponseError as error:
            # Whatever a server answers before the first command, it is none of the command's.
            raise redis.ConnectionError(str(error)) from error
        connection.lent_at = time.perf_counter()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] (ours)

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        """Lend a connection: an idle one without the locks, timers and records of the library."""
        if not self._available_connections:
            self._waiting += 1
            try:
                return await super().get_connection()  # type: ignore[no-untyped-call]
            finally:
                self._waiting -= 1
        connection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        lent_at: float | None = getattr(connection, "lent_at", None)
        if self._is_measured and lent_at is not None:
            _USES.observe(time.perf_counter() - lent_at)
        if self._waiting or connection.should_reconnect():  # type: ignore[no-untyped-call]
            await super().release(connection)
        else:
            self._in_use_connections.remove(connection)
            self._available_connections.append(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 (the library's)
        with contextlib.suppress(redis.TimeoutError):  # only its end was not seen in time
            await super().disconnect(inuse_connections)


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
    timeout = settings.redis_timeout
    answer = timeout if block is None else block + READ_GRACE
    async with contextlib.AsyncExitStack() as stack:
        if settings.url.startswith(SENTINEL_SCHEME):
            options = connection_options(connect=timeout, answer=answer)
            address = parse_sentinel_address(settings.url)
            open_sentinel: Callable[..., Sentinel] = Sentinel  # its constructor has no types
            sentinel = open_sentinel(
                address.hosts,
                sentinel_kwargs={name: options[name] for name in SENTINEL_OPTIONS},
                username=address.username,
                password=address.password,
                db=address.database,
                **options,
            )
            for one in sentinel.sentinels:
                stack.push_async_callback(one.aclose)
            client: Redis = sentinel.master_for(
                address.group,
                redis_class=LeanRedis,
                connection_pool_class=LiveSentinelPool,
                max_connections=MAX_CONNECTIONS,
                timeout=timeout.total_seconds(),
                is_measured=block is None,
            )
        else:
            # On a cluster each partition that a process owns is read over its own connection.
            client = client_of(
                settings.url,
                connect=timeout,
                answer=answer,
                most=MAX_CONNECTIONS if block is None else MAX_CONNECTIONS + MOST_PARTITIONS,
                is_measured=block is None,
            )
        yield await stack.enter_async_context(client)


def client_of(
    url: str, *, connect: timedelta, answer: timedelta, most: int, is_measured: bool = True
) -> Redis:
    """Return a client of one server, or of the cluster that an address names.

    `connect` and `answer` are how long each may take, and `most` the connections to a server.
    """
    options = connection_options(connect=connect, answer=answer) | {
        "max_connections": most,
        "timeout": connect.total_seconds(),
        "is_measured": is_measured,
    }
    parts = split_url(url)
    if parts.scheme not in CLUSTER_SCHEMES:
        return LeanRedis.from_pool(LivePool.from_url(url, **options))
    databases = {parts.path.strip("/"), *parse_qs(parts.query).get("db", [])}
    if not databases <= {"", "0"}:
        raise SettingsError("A Redis Cluster has no other database than 0: leave it out")
    credentials, at, hosts = parts.netloc.rpartition("@")

    def open_node(address: Address) -> Redis:
        netloc = f"{credentials}{at}{bracketed(address[0])}:{address[1]}"
        node = urlunsplit((CLUSTER_SCHEMES[parts.scheme], netloc, "", parts.query, ""))
        return LeanRedis.from_pool(LivePool.from_url(node, **options))

    return ClusterRedis(
        redis_hosts(hosts),
        open_node,
        is_outage=is_outage,
        confirm_within=connect / 2,
    )


async def ping(redis: Redis) -> None:
    """Ask for a sign of life."""
    with translated_errors():
        await redis.ping()


async def check_server(client: Redis, *, setting: str) -> None:
    """Raise `SettingsError` when an address is a cluster's and does not say so, or the reverse.

    A node would answer every key of another node with MOVED. A server that is away is not asked.
    """
    with contextlib.suppress(UnavailableError), translated_errors():
        if isinstance(client, ClusterRedis):
            try:
                await client.nodes()
            except redis.ResponseError as error:
                if "cluster support disabled" not in str(error):
                    raise
                raise SettingsError(f"{setting}: names no node of a Redis Cluster") from error
        elif (await client.info("cluster")).get("cluster_enabled"):
            raise SettingsError(f"{setting}: {SAY_CLUSTER}")


# What only a cluster asks for; with one server it says nothing.


def is_cluster(client: Redis) -> bool:
    """Return whether keys lie in slots, and those of a script or transaction must share one."""
    return isinstance(client, ClusterRedis)


def hash_tag(redis: Redis, text: str) -> str:
    """Return a part of keys' names that keeps keys with the same part in one slot of a cluster.

    With one server they are named as they were before there were clusters.
    """
    return f"{{{text}}}" if is_cluster(redis) else text


async def servers_of(redis: Redis) -> Mapping[str, Redis]:
    """Return clients of all servers that hold data, by their addresses: "" where there is one."""
    return await redis.nodes() if isinstance(redis, ClusterRedis) else {"": redis}


async def keys_everywhere(redis: Redis, name: str) -> list[str]:
    """Return keys with names that begin so, one on each server."""
    if not isinstance(redis, ClusterRedis):
        return [name]
    return [f"{name}:{{{tag}}}" for tag in await redis.tags()]


def keep_safe(pipeline: Pipeline) -> None:
    """Have what is written outlive the server, where a replica of it takes over by itself."""
    if isinstance(pipeline, ClusterPipeline):
        pipeline.is_safe = True


def then(pipeline: Pipeline) -> None:
    """Have what is queued from now on follow what was queued before, as it does on one server."""
    if isinstance(pipeline, ClusterPipeline):
        pipeline.then()


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
        "driver_info": _DRIVER,
    }


def milliseconds(span: timedelta) -> int:
    """Return a span in Redis' unit."""
    return span // timedelta(milliseconds=1)
