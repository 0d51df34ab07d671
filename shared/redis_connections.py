"""Connections to Redis as all its clients want them: no hidden retries, and none that died idle."""

from datetime import timedelta
from typing import Any

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
        "retry": Retry(NoBackoff(), 0),
        # Redis Enterprise's notices. While they are on, a closed connection counts as good.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


class LivePool(BlockingConnectionPool):
    """Gives nobody a connection that died while it lay idle, to fail at for nothing.

    The client's own check sees connections that were closed, but none that was reset.
    """

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        writer = connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] (no other way to ask)
        if writer is not None and writer.is_closing():
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)
