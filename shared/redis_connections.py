"""What all clients of Redis share: how they connect, and which of their errors are outages."""

import traceback
from datetime import timedelta
from typing import Any

import redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig


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


class LivePool(BlockingConnectionPool):
    """Never hands out a connection that died while it was idle, only to fail with it.

    The client's own check sees connections that were closed, but none that was reset.
    """

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        writer = connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] (no other way to ask)
        if writer is not None and writer.is_closing():
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)


# What is our own defect: a wrong command, argument, type or script. BUSYGROUP and a missing key
# are answers that the caller handles. Everything else that a server says is an outage.
_DEFECTS = (
    "BUSYGROUP",
    "CROSSSLOT",
    "WRONGTYPE",
    "Error compiling script",
    "Invalid stream ID",
    "no such key",
    "syntax error",
    "unknown command",
    "unknown subcommand",
    "user_script:",
    "value is not",
    "Wrong number of args calling command from script",
    "wrong number of arguments",
)
# How the client begins the error of a command in a pipeline.
_IN_PIPELINE = "of pipeline caused error: "


def is_outage(error: BaseException) -> bool:
    """Tell whether an error means that Redis cannot serve now.

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
