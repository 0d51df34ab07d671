"""Clients of the OpenAPI document: the console's types, and clients that generators make.

The console is checked by TypeScript; the others are type-checked too, and run against a stack.
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
    # Anew each time: one that another Python has made does not become this one's.
    run(directory, sys.executable, "-m", "venv", "--clear", environment)
    fetch(directory, python, "-m", "pip", "install", "-q", "-r", "requirements.txt")
    run(
        directory,
        *(environment / "bin/openapi-python-client", "generate", "--path", "openapi.json"),
        *("--config", "config.yaml", "--output-path", "client", "--overwrite"),
    )
    run(directory, python, "-m", "mypy", "--strict", "walk.py", MYPYPATH="client")
    run(directory, python, "walk.py", API_URL=url, PYTHONPATH="client")


WALKS: dict[str, Walk] = {"typescript": walk_typescript, "python": walk_python}


CONSOLE = ROOT / "services/api/console"
# What the console's libraries are to TypeScript: their packages.
LIBRARIES = {
    "preact": 'export * from "preact";',
    "hooks": 'export * from "preact/hooks";',
    "signals-core": 'export * from "@preact/signals-core";',
    "htm": 'import htm from "htm";\nexport default htm;',
}


def check_console(directory: Path) -> None:
    """Check the types in the console's JavaScript, by the API's document."""
    sources = directory / "console"
    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(CONSOLE, sources, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name, text in LIBRARIES.items():
        (sources / f"vendor/{name}.d.ts").write_text(text)
    tools = directory / "node_modules/.bin"
    fetch(directory, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error")
    run(directory, tools / "openapi-typescript", "openapi.json", "--output", "console/schema.d.ts")
    run(directory, tools / "tsc")


def prepared(name: str) -> Path:
    """Return the directory of a client, with its sources and the document."""
    directory = CACHE / name
    shutil.copytree(SOURCES / name, directory, dirs_exist_ok=True)
    (directory / "openapi.json").write_bytes(openapi_json())
    return directory


async def main() -> None:
    """Make and try each client; the first that fails ends it."""
    if shutil.which("npm") is None:
        print("The console's types: NOT CHECKED, as npm is not installed")  # noqa: T201
    else:
        try:
            check_console(prepared("console"))
        except UnreachableError as error:
            print(f"The console's types: NOT CHECKED. {error}")  # noqa: T201
    with scratch_directory() as data:
        async with running_stack(data, SYNC_ENABLED="false") as stack:
            for name, walk in WALKS.items():
                if name == "typescript" and shutil.which("npm") is None:
                    print("TypeScript: skipped, as npm is not installed")  # noqa: T201
                    continue
                try:
                    await asyncio.to_thread(walk, prepared(name), stack.url)
                except UnreachableError as error:
                    print(f"{name}: skipped. {error}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
