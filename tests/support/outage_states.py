"""States of real servers in which creates are answered 202 or 503, each made and undone again."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from ops.running import Servers
from shared.events.catalog import LEADS
from shared.events.partitions import Claim, Division, HeldEntry, Layout, Member
from shared.storage.partitions import PartitionRepository
from shared.streams.ordering.layout import Divisions
from tests.conftest import LEADS_DIVISION
from tests.support.eventually import eventually

NARROW = 1 << 16
"""STREAM_MAX_BYTES while streams are to be filled."""


State = Callable[[Servers], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def replica(servers: Servers) -> AsyncGenerator[None]:
    """Have Redis be a replica, of a master that is away."""
    await servers.redis.replicaof("127.0.0.1", "9")
    try:
        yield
    finally:
        await servers.redis.replicaof("NO", "ONE")


@asynccontextmanager
async def out_of_memory(servers: Servers) -> AsyncGenerator[None]:
    await servers.redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        await servers.redis.config_set("maxmemory", 0)


@asynccontextmanager
async def too_few_replicas(servers: Servers) -> AsyncGenerator[None]:
    await servers.redis.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        await servers.redis.config_set("min-replicas-to-write", 0)


@asynccontextmanager
async def failed_snapshot(servers: Servers) -> AsyncGenerator[None]:
    """Have Redis fail to write a snapshot: the file cannot be put in its place."""
    [directory] = (await servers.redis.config_get("dir")).values()
    assert directory is not None
    in_the_way = os.path.join(os.fsdecode(directory), "dump.rdb")  # noqa: PTH118 (bytes or text)

    async def has_failed() -> bool:
        status = (await servers.redis.info("persistence"))["rdb_last_bgsave_status"]
        return bool(status == "err")

    os.makedirs(os.path.join(in_the_way, "full"))  # noqa: PTH103, PTH118
    await servers.redis.config_set("save", "3600 1000000")
    await servers.redis.bgsave()
    await eventually(has_failed)
    try:
        yield
    finally:
        await servers.redis.config_set("save", "")
        shutil.rmtree(in_the_way)
        await servers.redis.save()
        os.unlink(in_the_way)  # noqa: PTH108


@asynccontextmanager
async def forbidden_streams(servers: Servers) -> AsyncGenerator[None]:
    await servers.redis.acl_setuser("default", enabled=True, commands=["-xadd"])
    try:
        yield
    finally:
        await servers.redis.acl_setuser("default", enabled=True, commands=["+xadd"])


async def fill(redis: Redis, *streams: str) -> None:
    for stream in streams:
        for _ in range(8 if len(streams) == 1 else 4):
            await redis.xadd(stream, {"data": "x" * (NARROW // 4)})


@asynccontextmanager
async def full_partition(servers: Servers) -> AsyncGenerator[None]:
    await fill(servers.redis, LEADS_DIVISION.last.name(1))
    yield
    await servers.redis.delete(LEADS_DIVISION.last.name(1))


@asynccontextmanager
async def full_stream(servers: Servers) -> AsyncGenerator[None]:
    await fill(servers.redis, *LEADS_DIVISION.last.names)
    yield
    await servers.redis.delete(*LEADS_DIVISION.last.names)


@asynccontextmanager
async def full_summaries(servers: Servers) -> AsyncGenerator[None]:
    await fill(servers.redis, "stream:summaries")
    yield
    await servers.redis.delete("stream:summaries")


@asynccontextmanager
async def closed(servers: Servers) -> AsyncGenerator[None]:
    """Have the number of partitions be changed, and nobody there to do it."""
    layouts = [*LEADS_DIVISION.layouts, Layout(LEADS, 2, 4)]
    store = PartitionRepository(servers.database)
    await store.divide(LEADS, number=2, partitions=4, is_open=False)
    await Divisions(servers.redis).publish(Division(layouts, is_open=False))
    yield
    await store.open_layout(layouts[-1])
    await Divisions(servers.redis).publish(Division(layouts, is_open=True))


@asynccontextmanager
async def held_key(servers: Servers) -> AsyncGenerator[None]:
    """Have an event be held, as it fails, and another one behind it."""
    store = PartitionRepository(servers.database)
    member = Member(uuid4(), "syncer:test:1", "here", "a/b/1/2")
    await store.survey(LEADS, beat=member)
    [row, *_] = (await store.survey(LEADS)).partitions
    claim = Claim(LEADS, 1, 0, member.token, row.epoch + 1)
    assert await store.claim(claim, row) is not None
    entries = [
        HeldEntry(
            entry_id=f"{number}-0",
            key="3f0e8c4e-0000-4000-8000-000000000000",
            attempt=4,
            wait=timedelta(minutes=5),
            fields={b"a": b"b"},
        )
        for number in (1, 2)
    ]
    with store.fenced([(claim, "2-0")]):
        await store.hold(claim, entries)
    yield
    for entry in entries:
        await store.let_go(claim, [entry.entry_id])


@asynccontextmanager
async def orphaned_group(servers: Servers) -> AsyncGenerator[None]:
    """Have a group that nobody reads for keep what is older than the retention."""
    name = LEADS_DIVISION.last.name(2)
    await servers.redis.xadd(name, {"a": "b"}, id="1-1")
    await servers.redis.xgroup_create(name, "backfill", id="0")
    yield
    await servers.redis.xgroup_destroy(name, "backfill")


@asynccontextmanager
async def locked(servers: Servers, mode: str = "SHARE ROW EXCLUSIVE") -> AsyncGenerator[None]:
    """Have another session hold a lock: leads are read, and not written."""
    async with servers.database.transaction() as connection:
        await connection.execute(f"LOCK TABLE leads.lead IN {mode} MODE")
        yield


@asynccontextmanager
async def locked_letters(servers: Servers) -> AsyncGenerator[None]:
    """Have dead letters be locked against reading, so that whoever looks at them hangs."""
    async with servers.database.transaction() as connection:
        await connection.execute("LOCK TABLE leads.dead_letter IN ACCESS EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def invalid_index(servers: Servers) -> AsyncGenerator[None]:
    """Have an index as it is left when the making of it beside running services is cut short."""
    mark = "UPDATE pg_index SET indisvalid = {} WHERE indexrelid = 'leads.event_recorded'::regclass"
    async with servers.database.connection() as connection:
        await connection.execute(mark.format("false"))
    yield
    async with servers.database.connection() as connection:
        await connection.execute(mark.format("true"))


@asynccontextmanager
async def locked_whole(servers: Servers) -> AsyncGenerator[None]:
    async with locked(servers, "ACCESS EXCLUSIVE"):
        yield


@asynccontextmanager
async def older_schema(servers: Servers) -> AsyncGenerator[None]:
    """Have the schema look as if the latest migration was still to come."""
    async with servers.database.connection() as connection:
        forgotten = await connection.fetchval(
            "UPDATE leads._yoyo_migration SET migration_id = 'not ' || migration_id"
            " WHERE migration_id = (SELECT max(migration_id) FROM leads._yoyo_migration)"
            " RETURNING migration_id"
        )
    try:
        yield
    finally:
        async with servers.database.connection() as connection:
            await connection.execute(
                "UPDATE leads._yoyo_migration SET migration_id = substr(migration_id, 5)"
                " WHERE migration_id = $1",
                forgotten,
            )


@asynccontextmanager
async def refusing(servers: Servers, *, code: str, says: str) -> AsyncGenerator[None]:
    """Have PostgreSQL refuse to write leads, and what doctor writes, with this error."""
    async with servers.database.connection() as connection:
        await connection.execute(
            f"""
            CREATE FUNCTION leads.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE EXCEPTION '{says}' USING ERRCODE = '{code}';
            END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON leads.event EXECUTE FUNCTION leads.refuse();
            CREATE TRIGGER refuse BEFORE INSERT ON leads.admin_action
                EXECUTE FUNCTION leads.refuse();
            """
        )
    yield
    async with servers.database.connection() as connection:
        await connection.execute("DROP FUNCTION leads.refuse CASCADE")


def full_disk(servers: Servers) -> AbstractAsyncContextManager[None]:
    says = 'could not extend file "base/5/16384": No space left on device'
    return refusing(servers, code="53100", says=says)


def read_only(servers: Servers) -> AbstractAsyncContextManager[None]:
    return refusing(servers, code="25006", says="cannot execute INSERT in a read-only transaction")


@asynccontextmanager
async def really_full_disk(servers: Servers) -> AsyncGenerator[None]:
    """Have the tables of events and of the operators' log be on a disk that is full."""
    async with servers.database.connection() as connection:
        data = await connection.fetchval("SELECT current_setting('data_directory')")
        with small_disk(like=data) as disk:
            await connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            for table in ("event", "admin_action"):
                await connection.execute(f"ALTER TABLE leads.{table} SET TABLESPACE small")
            try:
                with filled(disk):
                    yield
            finally:  # tablespaces are the whole server's
                for table in ("event", "admin_action"):
                    await connection.execute(f"ALTER TABLE leads.{table} SET TABLESPACE pg_default")
                await connection.execute("DROP TABLESPACE small")


@contextmanager
def small_disk(*, like: str) -> Generator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        options = f"size=256k,mode=700,uid={os.stat(like).st_uid}"  # noqa: PTH116
        mount = ["mount", "-t", "tmpfs", "-o", options, "none", directory]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs to mount a disk of its own")
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", "-l", directory], check=True)


@contextmanager
def filled(disk: Path) -> Generator[None]:
    filler = disk / "filler"
    with contextlib.suppress(OSError):
        filler.write_bytes(bytes(1 << 20))
    try:
        yield
    finally:
        filler.unlink()
