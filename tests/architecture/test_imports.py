"""Who may import whom, and that importing does nothing."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import PRODUCT, ROOT, ProductModule

# Under these names a module would collect whatever finds no better place.
SHAPELESS = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base"}

# A library's distribution that comes with one named in pyproject.toml, as a part of it.
COMES_WITH = {"supabase-auth": "supabase", "pydantic-core": "pydantic"}

# Imports every module given as JSON while nothing may be opened, started or listened to.
IMPORT_ALL = """
import importlib, json, sys

forbidden = ("socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "os.posix_spawn")
importing = []

def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event in forbidden or (writes and importing):
        sys.stderr.write(f"{importing[-1:]}: {event} {arguments!r}\\n")
        raise SystemExit(3)

sys.dont_write_bytecode = True
sys.addaudithook(watch)
for name in json.load(sys.stdin):
    importing.append(name)
    importlib.import_module(name)
    importing.clear()
import asyncio, threading
assert threading.active_count() == 1, threading.enumerate()
print("imported")
"""


def imports(module: ProductModule) -> Iterator[str]:
    """Yield the root of every absolute import, wherever in the module it stands."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def declared(extra: str | None = None) -> set[str]:
    """Return the distributions that pyproject.toml names, at run time or for an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups: list[list[str]] = [project["dependencies"]]
    if extra is not None:
        groups.append(project["optional-dependencies"][extra])
    return {canonicalize_name(Requirement(line).name) for group in groups for line in group}


def third_parties(modules: list[ProductModule]) -> set[str]:
    """Return the distributions that these modules import."""
    distributions = packages_distributions()
    roots = {root for module in modules for root in imports(module)}
    outside = roots - sys.stdlib_module_names - set(PRODUCT)
    names = {canonicalize_name(distributions[root][0]) for root in outside}
    return {COMES_WITH.get(name, name) for name in names}


def run_import_linter(directory: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-logo", "--no-cache"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_contracts_are_kept() -> None:
    result = run_import_linter(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_contracts_catch_a_handler_that_knows_a_driver(tmp_path: Path) -> None:
    make_packages(tmp_path)
    handler = tmp_path / "services/syncer/handlers/lead_created.py"
    handler.write_text("import asyncpg\nfrom services.api import app\n")

    result = run_import_linter(tmp_path)

    assert result.returncode == 1
    broken = {line for line in result.stdout.splitlines() if line.endswith("BROKEN")}
    assert len(broken) == 3, result.stdout  # PostgreSQL, handlers and the services' independence


def make_packages(directory: Path) -> None:
    """Copy the product's tree with empty modules, under the repository's contracts."""
    (directory / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*.py"):
            copy = directory / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
    # What a contract names must be imported somewhere.
    (directory / "shared/storage/migrations/runner.py").write_text("import psycopg, yoyo\n")
    (directory / "shared/storage/pool.py").write_text("import asyncpg\n")
    (directory / "shared/redis_connections.py").write_text("import redis\n")
    (directory / "shared/observability/spans.py").write_text("import opentelemetry\n")
    (directory / "services/api/auth/accounts.py").write_text("import supabase_auth\n")
    (directory / "services/summarizer/providers/groq.py").write_text("import groq\n")


@pytest.mark.long
def test_importing_opens_and_starts_nothing(modules: list[ProductModule]) -> None:
    names = [one.name for one in modules if not one.name.endswith("__main__")]
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=ROOT,
        input=json.dumps([name for name in names if name != "devstack.parent_death"]),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert result.stdout == "imported\n", result.stderr


def test_no_module_holds_a_client(modules: list[ProductModule]) -> None:
    held = [
        f"{module.path}:{statement.lineno} {name}"
        for module in modules
        for statement in module.tree.body
        for name in opened(statement)
    ]

    assert held == [], "open clients in a bootstrap, and close them there"


def opened(statement: ast.stmt) -> Iterator[str]:
    """Yield what a module's statement opens or connects as it is imported."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr):
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.rpartition(".")[2].lower()
            if last.startswith(("open_", "connect", "create_")) or last.endswith(
                ("client", "session", "pool", "redis", "from_url", "engine")
            ):
                yield name


def test_a_held_client_is_seen() -> None:
    for source in ("redis = Redis.from_url(url)", "http: S = aiohttp.ClientSession()"):
        assert list(opened(ast.parse(source).body[0])), source


def test_no_module_is_shapeless(modules: list[ProductModule]) -> None:
    names = {part: one.name for one in modules for part in one.name.split(".")}

    assert SHAPELESS.isdisjoint(names), [names[part] for part in SHAPELESS & names.keys()]


def test_every_library_is_declared_where_it_is_needed(modules: list[ProductModule]) -> None:
    in_services = [one for one in modules if not one.name.startswith("devstack")]
    in_devstack = [one for one in modules if one.name.startswith("devstack")]

    assert third_parties(in_services) - declared("tracing") == set()
    assert third_parties(in_devstack) - declared("devstack") == set()


def test_every_module_says_what_it_is_for(modules: list[ProductModule]) -> None:
    silent: list[Any] = [one.path for one in modules if not ast.get_docstring(one.tree)]

    assert silent == []


def printed(text: str) -> Any:
    """Return what Python's code prints as JSON, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def test_a_command_imports_nothing_that_it_does_not_need() -> None:
    """What few processes need later takes a part of each one's start, and of its memory."""
    imported = printed("import ops.commands.migrate, json, sys; print(json.dumps([*sys.modules]))")

    assert not {"redis", "asyncpg", "structlog", "rich", "httpx", "aiohttp"} & set(imported)


# What each keeps its libraries from importing can be imported after all, once it runs.
STARTED = """
import json, sys
from shared.lifecycle import main_of

main_of("services.{service}.app")
imported = [*sys.modules]
import shared.observability.tracer, click, rich.console
{more}
print(json.dumps([imported, seen]))
"""

OF_AN_API = """
from datetime import timedelta
from services.api.auth.client import open_client
from services.api.console.serving import Console
from services.api.handlers import documents
from services.api.web.responses import Representation

open_client(timeout=timedelta(seconds=1))
Console.of_this_release()
built = [one.__name__ for one in Representation.__subclasses__() if one.__pydantic_complete__]
compressed = documents._compressed.cache_info().currsize
seen = ["httpcore" in sys.modules, "h2" in sys.modules, built, compressed]
"""


def assert_lean(imported: Sequence[str]) -> None:
    roots = {name.partition(".")[0] for name in imported}

    assert {"structlog", "redis"} <= roots
    assert not roots & {"click", "greenlet", "opentelemetry", "psutil", "pygments", "rich"}


@pytest.mark.parametrize("service", ["syncer", "summarizer"])
def test_a_service_keeps_libraries_from_importing_what_they_have_no_use_for(service: str) -> None:
    imported, _ = printed(STARTED.format(service=service, more="seen = None"))

    assert_lean(imported)


def test_an_api_puts_off_what_few_requests_need() -> None:
    imported, seen = printed(STARTED.format(service="api", more=OF_AN_API))

    assert_lean(imported)
    assert not {"services.api.openapi.document", "services.api.documents"} & set(imported)
    assert seen == [True, False, [], 0]
