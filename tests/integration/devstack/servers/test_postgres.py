"""The embedded PostgreSQL: what it keeps, and what it survives."""

import os
import shutil
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from devstack.data_directory import scratch_directory
from devstack.process import Command, ProcessFailedError, run_to_end
from devstack.servers.binaries import postgres_directory
from devstack.servers.postgres import (
    ClusterInUseError,
    EmbeddedPostgres,
    NoHomeError,
    WrongVersionError,
    clear_stale_lock,
    everyone_reaches,
    major_version,
    prepare_home,
    processes_in,
)
from tests.support.eventually import eventually

IS_ROOT = os.geteuid() == 0
NO_PATIENCE = timedelta(0)


@pytest.fixture(scope="module")
async def server() -> AsyncGenerator[EmbeddedPostgres]:
    with scratch_directory() as directory:
        async with EmbeddedPostgres(directory / "postgres", fsync=False) as running:
            yield running


async def value(server: EmbeddedPostgres, query: str) -> object:
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        row = await (await connection.execute(query.encode())).fetchone()
        return row[0] if row else None


async def run(server: EmbeddedPostgres, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        await connection.execute(statement.encode())


def cluster_of(server: EmbeddedPostgres) -> Path:
    return server.directory / "cluster"


async def test_it_is_ready_when_entered(server: EmbeddedPostgres) -> None:
    assert await value(server, "SELECT current_database()") == "leads"
    assert await value(server, "SHOW server_encoding") == "UTF8"
    assert await value(server, "SELECT lower('\N{LATIN CAPITAL LETTER A WITH DIAERESIS}')") == (
        "\N{LATIN SMALL LETTER A WITH DIAERESIS}"
    )


async def test_it_asks_for_the_password(server: EmbeddedPostgres) -> None:
    without = f"postgresql://postgres@{server.host}:{server.port}/leads"
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        await psycopg.AsyncConnection.connect(without)
    wrong = f"postgresql://postgres:wrong@{server.host}:{server.port}/leads"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await psycopg.AsyncConnection.connect(wrong)


async def test_its_password_is_closed_to_others(server: EmbeddedPostgres) -> None:
    password = conninfo_to_dict(server.dsn)["password"]
    kept = server.directory / "password"
    assert kept.read_text() == password
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


async def test_a_restart_keeps_port_and_data_and_is_another_process(
    server: EmbeddedPostgres,
) -> None:
    await run(server, "CREATE TABLE kept (note text)")
    await run(server, "INSERT INTO kept VALUES ('before the restart')")
    before = (server.port, server.pid)
    await server.restart()
    assert await value(server, "SELECT note FROM kept") == "before the restart"
    assert server.port == before[0]
    assert server.pid != before[1]


async def test_a_crash_loses_nothing_committed(server: EmbeddedPostgres) -> None:
    await run(server, "CREATE TABLE survivors AS SELECT generate_series(1, 1000)")
    await server.kill()
    with pytest.raises(psycopg.OperationalError):
        await value(server, "SELECT 1")
    await server.restart()
    assert await value(server, "SELECT count(*) FROM survivors") == 1000


async def test_a_lock_file_with_a_living_foreign_pid_is_stale(server: EmbeddedPostgres) -> None:
    await server.kill()
    lock = cluster_of(server) / "postmaster.pid"
    lines = lock.read_text().splitlines(keepends=True)
    lock.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))
    await server.restart()
    assert await value(server, "SELECT 1") == 1


async def test_two_servers_on_one_directory_are_refused(server: EmbeddedPostgres) -> None:
    with pytest.raises(ClusterInUseError, match=str(server.pid)):
        await clear_stale_lock(cluster_of(server), deadline=NO_PATIENCE)
    assert await value(server, "SELECT 1") == 1


async def test_what_it_logs_while_running_is_passed_on(scratch: Path) -> None:
    lines: list[str] = []
    async with EmbeddedPostgres(scratch, fsync=False, on_line=lines.append) as server:
        await run(server, "DO $$ BEGIN RAISE LOG 'worth a look'; END $$")
        await eventually(mentions(lines, "worth a look"))
    assert not any("ready to accept" in line for line in lines)


async def test_data_is_there_at_the_next_run_with_fsync_on(scratch: Path) -> None:
    async with EmbeddedPostgres(scratch) as first:
        assert await value(first, "SHOW fsync") == "on"
        await run(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with EmbeddedPostgres(scratch) as second:
        assert await value(second, "SELECT answer FROM kept") == 42
    assert not processes_in(cluster_of(second))


async def test_data_of_another_major_version_is_refused(scratch: Path) -> None:
    cluster = scratch / "cluster"
    cluster.mkdir()
    if IS_ROOT:
        os.chown(cluster, 65_534, 65_534)
    (cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(WrongVersionError, match="is of PostgreSQL 9, but"):
        async with EmbeddedPostgres(scratch):
            pass


@pytest.mark.skipif(not IS_ROOT, reason="needs files of another user")
async def test_data_of_another_user_is_refused(scratch: Path) -> None:
    (scratch / "cluster").mkdir()
    with pytest.raises(NoHomeError, match="belongs to another user"):
        async with EmbeddedPostgres(scratch):
            pass


async def test_an_interrupted_initdb_is_done_again(scratch: Path) -> None:
    draft = scratch / "cluster.draft"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres(scratch, fsync=False) as server:
        assert await value(server, "SELECT 1") == 1


async def test_a_taken_port_is_an_error_with_the_servers_own_words(
    server: EmbeddedPostgres, scratch: Path
) -> None:
    second = EmbeddedPostgres(scratch, fsync=False, port=server.port)
    with pytest.raises(ProcessFailedError, match="could not bind IPv4 address"):
        await second.start()


@pytest.mark.skipif(not IS_ROOT, reason="only root has to run it as another user")
async def test_root_runs_it_as_nobody(server: EmbeddedPostgres) -> None:
    assert os.stat(f"/proc/{server.pid}").st_uid == 65_534  # noqa: PTH116  /proc does not block


@pytest.mark.skipif(not IS_ROOT, reason="others run it as themselves, wherever they are")
async def test_below_a_closed_directory_the_data_moves(scratch: Path) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    directory = closed / "postgres"
    try:
        async with EmbeddedPostgres(directory, fsync=False) as first:
            moved_to = (directory / "elsewhere").resolve()
            assert first.notice is not None
            assert str(moved_to) in first.notice
            assert everyone_reaches(moved_to)
            await run(first, "CREATE TABLE kept AS SELECT 42 AS answer")
        async with EmbeddedPostgres(directory, fsync=False) as second:
            assert await value(second, "SELECT answer FROM kept") == 42
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        shutil.rmtree((directory / "elsewhere").resolve())


@pytest.mark.skipif(not IS_ROOT, reason="only root runs binaries as another user")
async def test_binaries_out_of_reach_are_copied_beside_the_data(scratch: Path) -> None:
    """As in a virtual environment below /root."""
    original = postgres_directory({}).parent.parent
    hidden = scratch / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(original, hidden / original.name, symlinks=True)
    libraries = original.with_suffix(".libs")
    shutil.copytree(libraries, hidden / libraries.name)
    binaries = hidden / original.name / "pginstall" / "bin"
    home = prepare_home(scratch / "postgres", binaries)
    assert home.binaries != binaries
    assert everyone_reaches(home.binaries)
    assert prepare_home(scratch / "postgres", binaries) == home, "copied once"
    assert await major_version(home) == 18
    command = Command((str(home.binaries / "initdb"), "--version"), account=home.account)
    assert "PostgreSQL" in await run_to_end("initdb", command, deadline=timedelta(seconds=10))


def mentions(lines: list[str], text: str) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return any(text in line for line in lines)

    return probe
