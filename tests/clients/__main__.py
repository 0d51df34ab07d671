"""Clients that generators make of the OpenAPI document: type-checked, and run against a stack.

`python -m tests.clients` needs npm, and the registries of npm and PyPI. What it installs is kept in
the user's cache, apart from what the project itself stands on.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from devstack.data_directory import scratch_directory
from services.api.documents import openapi_json
from tests.support.repository import ROOT
from tests.support.stack import running_stack

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "leads-clients"
SOURCES = ROOT / "tests/clients"

# A check of one client: in its directory, against the API at an address.
Walk = Callable[[Path, str], None]


def run(directory: Path, *command: str | Path, **environment: str) -> None:
    """Run a command to its end; raises `CalledProcessError` when it fails."""
    subprocess.run(command, cwd=directory, env=os.environ | environment, check=True)


class UnreachableError(Exception):
    """What a client is made with cannot be had from its registry."""


def fetch(directory: Path, *command: str | Path) -> None:
    """Run what installs something; raises `UnreachableError` when it fails."""
    try:
        run(directory, *command)
    except subprocess.CalledProcessError as error:
        raise UnreachableError(str(error)) from error


def walk_typescript(directory: Path, url: str) -> None:
    tools = directory / "node_modules/.bin"
    fetch(directory, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error")
    run(directory, tools / "openapi-typescript", "openapi.json", "--output", "schema.d.ts")
    run(directory, tools / "tsc")
    run(directory, "node", "built/walk.js", API_URL=url)


def walk_python(directory: Path, url: str) -> None:
    environment, python = directory / "environment", directory / "environment/bin/python"
    run(directory, sys.executable, "-m", "venv", environment)
    fetch(directory, python, "-m", "pip", "install", "-q", "-r", "requirements.txt")
    run(
        directory,
        *(environment / "bin/openapi-python-client", "generate", "--path", "openapi.json"),
        *("--config", "config.yaml", "--output-path", "client", "--overwrite"),
    )
    run(directory, python, "-m", "mypy", "--strict", "walk.py", MYPYPATH="client")
    run(directory, python, "walk.py", API_URL=url, PYTHONPATH="client")


WALKS: dict[str, Walk] = {"typescript": walk_typescript, "python": walk_python}


async def main() -> None:
    """Make and try each client; the first that fails ends it."""
    with scratch_directory() as data:
        async with running_stack(data, SYNC_ENABLED="false") as stack:
            for name, walk in WALKS.items():
                if name == "typescript" and shutil.which("npm") is None:
                    print("TypeScript: skipped, as npm is not installed")  # noqa: T201
                    continue
                directory = CACHE / name
                shutil.copytree(SOURCES / name, directory, dirs_exist_ok=True)
                (directory / "openapi.json").write_bytes(openapi_json())
                try:
                    await asyncio.to_thread(walk, directory, stack.url)
                except UnreachableError as error:
                    print(f"{name}: skipped. {error}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
