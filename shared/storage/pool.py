"""Opening PostgreSQL, and its errors in the domain's terms."""

import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import timedelta
from typing import TypeAlias, TypeVar
from urllib.parse import urlencode

import asyncpg
import structlog

from shared.background import cancellation_kept
from shared.domain.errors import (
    FencedError,
    PermanentError,
    TransientError,
    UnavailableError,
    UnfinishedError,
)
from shared.observability import tracing
from shared.observability.metrics import DB_SECONDS, gauge, histogram
from shared.settings import PostgresSettings
from shared.storage.prepared_statements import POOLED_AFTER_ALL, Statements

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# How often a transaction may lose a race for a unique key.
TRIES = 3

# Worth another try, but not for ever: it may be this one event's fault.
_TRANSIENT = (
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.PLPGSQLError,  # a trigger of the operator's
)
_DOMAIN = (TransientError, UnfinishedError, PermanentError, FencedError)
# Raised by `leads.fence`.
_FENCED = "LF001"

# What is our own defect, by class of SQLSTATE: what a value can cause, and a statement that no
# server would take. Every other error is the server's, the network's or the operator's: a table or
# a column is missing until the schema is migrated, or after a backup was restored.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_DEFECTS = (
    "21",  # cardinality violation
    "22",  # data exception: a value of the wrong type or out of range
    "23",  # constraint violation
    "42601",  # syntax error
    "42804",  # datatype mismatch
    "42846",  # cannot coerce
    "42P02",  # undefined parameter
    "42P18",  # indeterminate datatype
    "44",  # check option violation
    "54",  # statement too complex, too many arguments
)
# The driver's words for a statement that got more or fewer arguments than it has parameters.
_WRONG_NUMBER_OF_ARGUMENTS = "the server expects"


def is_defect(error: BaseException) -> bool:
    """Whether an error of a statement is a defect of ours.

    What is not shown to be one is a failure of the server, of the network or of the driver: an
    unlisted error must not end a process or park an event.
    """
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]  # untyped in the stubs
        return state.startswith(_DEFECTS)
    if isinstance(error, asyncpg.InterfaceError):
        return str(error).startswith(_WRONG_NUMBER_OF_ARGUMENTS)
    if isinstance(error, asyncpg.InternalClientError | OSError):
        return False
    # With a connection that was reset the event loops raise `TypeError` or `RuntimeError`.
    return not _passed_through_driver(error)


def _passed_through_driver(error: BaseException) -> bool:
    return any(
        str(frame.f_globals.get("__name__", "")).partition(".")[0] == "asyncpg"
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


@contextlib.contextmanager
def translated_errors() -> Generator[None]:
    """Raise `TransientError` or `UnavailableError` for what is no defect of ours."""
    try:
        with cancellation_kept(), _without_rows():
            yield
    except _DOMAIN:
        raise
    except _TRANSIENT as error:
        raise TransientError(f"PostgreSQL: {error}") from error
    except Exception as error:
        if isinstance(error, asyncpg.PostgresError) and error.sqlstate == _FENCED:
            raise FencedError(str(error)) from error
        if is_defect(error):
            raise
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> UnavailableError:
    reason = str(error) or type(error).__name__
    return UnavailableError(f"PostgreSQL is unavailable: {reason}", dependency="postgres")


@contextlib.contextmanager
def _without_rows() -> Generator[None]:
    """Take the row that failed out of an error: it would end up in logs, personal data and all."""
    try:
        yield
    except asyncpg.PostgresError as error:
        error.detail = None  # pyright: ignore[reportAttributeAccessIssue]  # missing in the stubs
        raise


# What every transaction of a task begins with: `shared.storage.partitions` sets it.
transaction_begin: ContextVar[str | None] = ContextVar("transaction_begin", default=None)

_BEGIN_READ_ONLY = "BEGIN READ ONLY"

_CONNECTIONS = gauge(
    "leads_pool_connections",
    "Connections to PostgreSQL: used by someone, or idle.",
    ["pool", "state"],
)
_WAIT = histogram(
    "leads_pool_wait_seconds", "Waits for a connection to PostgreSQL, and a new one's making."
).labels()


class Database:
    """A pool whose every use has a deadline and raises the domain's errors.

    Nothing here outlasts a transaction where a pooler may give each one another session: then no
    parameter is set but for its length, and no statement is kept prepared.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        statements: Statements,
        settings: PostgresSettings,
        *,
        read_only: bool = False,
    ) -> None:
        self._pool = pool
        self._statements = statements
        self._timeout = settings.postgres_timeout.total_seconds()
        self._is_read_only = read_only

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend a connection; waits no longer than the timeout for one."""
        async with self._lent("statement") as connection:
            if not self._is_read_only or self._statements.sessions_read_only:
                yield connection
                return
            # By way of a pooler nothing longer than a transaction can be told to write nothing.
            async with _begun(connection, _BEGIN_READ_ONLY):
                yield connection

    @contextlib.asynccontextmanager
    async def transaction(self, *, setting: str = "") -> AsyncGenerator[Connection]:
        """Lend a connection inside a transaction, committed at the end of the block.

        `setting` is a SET LOCAL that goes out with its beginning.
        """
        begin = transaction_begin.get() or (_BEGIN_READ_ONLY if self._is_read_only else "BEGIN")
        lending = self._lent("transaction")
        async with lending as connection, _begun(connection, f"{begin}; {setting}"):
            yield connection

    async def ping(self) -> None:
        """Raise `UnavailableError` unless the server answers."""
        async with self._lent("ping") as connection:
            await connection.execute("SELECT 1")

    @contextlib.asynccontextmanager
    async def _lent(self, operation: str) -> AsyncGenerator[Connection]:
        with translated_errors():
            async with self._acquired() as connection:
                try:
                    with _measured(operation), _traced(connection):
                        yield connection
                except (asyncio.CancelledError, TimeoutError):
                    # The pool would first wait for the server's word that it has stopped,
                    # and the caller, who just gave up on that server, would wait after all.
                    connection.terminate()
                    raise
                except POOLED_AFTER_ALL:
                    if self._statements.give_up():
                        await self._pool.expire_connections()
                    raise

    @property
    def silence(self) -> str:
        """Why there may be no answer in time."""
        most = self._pool.get_max_size()
        if self._pool.get_size() == most and not self._pool.get_idle_size():
            return f"PostgreSQL: all {most} connections are in use (POSTGRES_POOL_SIZE)"
        return "PostgreSQL is unavailable: no answer in time"

    @contextlib.asynccontextmanager
    async def _acquired(self) -> AsyncGenerator[Connection]:
        try:
            with _WAIT.time():
                connection = await self._pool.acquire(timeout=self._timeout)
        except Exception as error:
            # Whatever comes before the first statement is no statement's defect.
            raise _unavailable(error) from error
        try:
            yield connection
        finally:
            await self._pool.release(connection)


@contextlib.contextmanager
def _measured(operation: str) -> Generator[None]:
    started, error_type = time.perf_counter(), ""
    try:
        yield
    except BaseException as error:
        error_type = type(error).__name__
        raise
    finally:
        series = DB_SECONDS.labels("postgresql", operation, error_type)
        series.observe(time.perf_counter() - started)


def _traced(connection: Connection) -> AbstractContextManager[None]:
    """Give each statement a span, where they are below one."""
    note = None if tracing.tracer is None else tracing.tracer.statements()
    return contextlib.nullcontext() if note is None else connection.query_logger(note)


@contextlib.asynccontextmanager
async def _begun(connection: Connection, begin: str) -> AsyncGenerator[None]:
    """Begin a transaction with more than BEGIN, all in one round trip."""
    try:
        await connection.execute(begin)
        yield
    except (asyncio.CancelledError, TimeoutError):
        raise  # `_lent` ends it together with the connection
    except BaseException:
        if not connection.is_closed():
            with contextlib.suppress(Exception):  # the first error is the one to tell
                await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


@contextlib.asynccontextmanager
async def open_database(
    settings: PostgresSettings, *, read_only: bool = False, name: str = "main"
) -> AsyncGenerator[Database]:
    """Open a pool that connects when first used, so that a service starts before its database.

    `read_only` makes PostgreSQL itself refuse every write. `name` is the pool's in metrics.
    """
    seconds = settings.postgres_timeout.total_seconds()
    address = settings.address
    tls = {name: value for name, value in address.options.items() if name != "options"}
    statements = Statements(settings.postgres_statement_cache, read_only=read_only)
    pool = asyncpg.create_pool(
        f"postgresql://?{urlencode(tls)}",
        host=list(address.hosts),
        port=list(address.ports),
        user=address.user,
        password=address.password,
        database=address.database,
        min_size=0,
        max_size=settings.postgres_pool_size,
        timeout=seconds,
        command_timeout=seconds,
        connect=statements.connect,
        reset=_leave_as_it_is,
        # Known to every pooler. What else is asked for is the operator's wish.
        server_settings={
            "application_name": "leads",
            **({"options": wish} if (wish := address.options.get("options")) else {}),
        },
    )
    async with pool:
        _CONNECTIONS.labels(name, "idle").set_function(pool.get_idle_size)
        _CONNECTIONS.labels(name, "used").set_function(
            lambda: pool.get_size() - pool.get_idle_size()
        )
        yield Database(pool, statements, settings, read_only=read_only)


async def fetch_batches(
    connection: Connection, query: str, *parameters: object, size: int, within: timedelta
) -> AsyncGenerator["list[asyncpg.Record]"]:
    """Yield a query's rows, up to `size` at a time, from one snapshot; `within` bounds each fetch.

    In a transaction. By a cursor of the server's, as the driver's own has a prepared statement.
    """
    await connection.execute("SET LOCAL cursor_tuple_fraction = 1")  # all of it is wanted
    await connection.execute(f"DECLARE batches NO SCROLL CURSOR FOR {query}", *parameters)
    fetch = f"FETCH {size} FROM batches"
    while rows := await connection.fetch(fetch, timeout=within.total_seconds()):
        yield rows


async def _leave_as_it_is(_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Nothing outlasts a transaction here, so the next user has nothing to be spared.

    asyncpg would otherwise ask the server to reset the session each time a connection comes
    back, which its user has to wait for.
    """


async def retry_unique_violation(transaction: Callable[[], Awaitable[Result]]) -> Result:
    """Repeat a transaction that another one was faster than: it then sees what the other did.

    Raises `TransientError` when that keeps happening.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(asyncpg.UniqueViolationError):
            return await transaction()
    try:
        return await transaction()
    except asyncpg.UniqueViolationError as error:
        raise TransientError(f"PostgreSQL: {error}") from error
