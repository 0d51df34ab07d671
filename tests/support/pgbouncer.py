"""PgBouncer in front of a test's PostgreSQL, as Debian packages it and Supabase configures it."""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
from yarl import URL

from devstack.process import Command
from devstack.servers.server import EmbeddedServer

# Debian keeps it where only root looks.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

SESSIONS = 8  # with each database
KEEPS_STATEMENTS = (1, 21)  # the first version that can

# One session of the server serves many clients, one transaction each.
CONFIGURATION = """\
[databases]
* = host={host} port={server}

[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = {sessions}
ignore_startup_parameters = extra_float_digits
max_client_conn = 500
log_connections = 0
log_disconnections = 0
log_pooler_errors = 0
"""


class PgBouncer(EmbeddedServer):
    """A pooler in transaction mode; `prepared` is how many statements it keeps for a client."""

    name = "pgbouncer"

    def __init__(self, directory: Path, dsn: str, *, prepared: int = 0) -> None:
        super().__init__(directory, port=None, on_line=print)
        self._server = URL(dsn)
        self._prepared = prepared

    @property
    def keeps_statements(self) -> bool:
        return self._prepared > 0

    def pooled(self, dsn: str) -> str:
        """Return the address of a database of the server by way of the pooler."""
        return str(URL(dsn).with_port(self.port))

    async def _prepare(self) -> Command:
        self.directory.mkdir(exist_ok=True)
        user, password = self._server.user, self._server.password
        (self.directory / "users").write_text(f'"{user}" "{password}"\n')
        path = self.directory / "pgbouncer.ini"
        text = CONFIGURATION.format(
            host=self.host,
            port=self.port,
            server=self._server.port,
            directory=self.directory,
            sessions=SESSIONS,
        )
        if self.keeps_statements:
            text += f"max_prepared_statements = {self._prepared}\n"
        path.write_text(text)
        # It does not run as root.
        account = ("-u", "nobody") if os.geteuid() == 0 else ()
        return Command((PROGRAM or "pgbouncer", *account, str(path)), directory=self.directory)

    async def _answers(self) -> bool:
        try:
            async with await psycopg.AsyncConnection.connect(
                self.pooled(str(self._server.with_path("/postgres"))), connect_timeout=5
            ):
                return True
        except psycopg.OperationalError:
            return False


def version() -> tuple[int, int]:
    """Return the installed version; 0.0 without one."""
    if PROGRAM is None:
        return 0, 0
    written = subprocess.run((PROGRAM, "--version"), capture_output=True, text=True, check=True)
    major, minor, *_ = written.stdout.split()[1].split(".")
    return int(major), int(minor)
