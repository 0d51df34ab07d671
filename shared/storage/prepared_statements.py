"""Texts of statements, and what sessions keep: prepared ones, unless a pooler may not let them."""

from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import structlog

log = structlog.get_logger(__name__)

Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

# How many prepared statements a connection keeps.
MOST_STATEMENTS = 100
# What a server says of a statement that was prepared in another of its sessions.
POOLED_AFTER_ALL = (
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
)


def load_sql(module_file: str, name: str) -> str:
    """Return the statement in the file `name` beside a module, which passes its `__file__`.

    For statements too long for a literal: read once, at import.
    """
    return (Path(module_file).parent / name).read_text(encoding="utf-8")


# A session's own, as no transaction then has to say so, each at two round trips.
_READ_ONLY = "SET default_transaction_read_only = on"


class Statements:
    """Whether connections keep prepared statements: `on`, `off`, or `auto` for direct ones.

    With `read_only` the sessions of direct ones write nothing, if it is known that they are direct.
    """

    def __init__(self, setting: str, *, read_only: bool = False) -> None:
        self._is_auto = setting == "auto"
        self._are_kept = setting != "off"
        self._is_read_only = read_only

    @property
    def sessions_read_only(self) -> bool:
        """Whether the sessions of all connections that are lent from now on write nothing."""
        return self._is_read_only and self._is_auto and self._are_kept

    def give_up(self) -> bool:
        """Note that there is a pooler; returns whether that is news and matters."""
        is_news = self._is_auto and self._are_kept
        if is_news:
            self._are_kept = False
            log.info("postgres.pooled", statements="not kept")
        return is_news

    async def connect(
        self,
        *places: Any,
        **options: Any,  # the driver's
    ) -> "asyncpg.Connection[asyncpg.Record]":
        """Connect as the driver's pool asks for it."""
        kept = MOST_STATEMENTS if self._are_kept else 0
        connection: asyncpg.Connection[asyncpg.Record]
        connection = await asyncpg.connect(*places, **options, statement_cache_size=kept)
        _introduce_arrays(connection)
        try:
            if not (kept and self._is_auto) or await is_direct(connection):
                if kept and self.sessions_read_only:
                    await connection.execute(_READ_ONLY)
                return connection
        except BaseException:
            connection.terminate()
            raise
        connection.terminate()
        self.give_up()
        return await self.connect(*places, **options)


# The types of parameters that the driver would ask the server about, by name: the object ids of
# the array and of its elements, which are the same in each PostgreSQL.
_ARRAYS = {
    "uuid": (2951, 2950),
    "bytea": (1001, 17),
    "timestamptz": (1185, 1184),
    "int8": (1016, 20),
}


def _introduce_arrays(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Have the driver know the arrays that are used here.

    To ask for them it would take three round trips on each new connection, and would switch `jit`
    off for the session meanwhile, which by way of a pooler may stay so for others.
    """
    protocol = connection._protocol  # type: ignore[attr-defined]  # noqa: SLF001 # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType, reportPrivateUsage]
    protocol.get_settings().register_data_types(  # pyright: ignore[reportUnknownMemberType]
        [
            {
                "oid": array,
                "ns": "pg_catalog",
                "name": f"_{name}",
                "elemtype": element,
                "elemdelim": ",",
                "range_subtype": None,
                "attrtypoids": None,
                "basetype": None,
            }
            for name, (array, element) in _ARRAYS.items()
        ]
    )


async def is_direct(connection: Connection) -> bool:
    """Return whether no pooler stands in between: it would tell a process id of its own."""
    told = connection.get_server_pid()
    # Without parameters, and so in one round trip that leaves nothing behind.
    return await connection.execute(f"SELECT WHERE pg_backend_pid() = {told}") == "SELECT 1"
