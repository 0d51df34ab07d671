"""Backups: the drill of a database that is lost, and what keeps a backup from being none."""

import contextlib
import os
import stat
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from redis.asyncio import Redis

from ops.backups.directory import BackupDirectory, read_erasures
from shared.events.data import SummaryRequested
from shared.events.envelope import Event
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.admin_log import AdminLog
from shared.storage.erasure import delete_leads as delete_rows
from shared.storage.inbox import EventStore
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from tests.integration.ops.conftest import Ops, Table, rows
from tests.support.builders import lead_created, lead_deleted, lead_updated
from tests.support.eventually import eventually
from tests.support.lead_table import insert_lead
from tests.support.summaries import Says
from tests.support.summarizer import running_summarizer, summarizer_settings
from tests.support.syncer import running_syncer

# All but the stamps: what is applied anew gets new ones.
LEADS = """
    SELECT to_jsonb(lead) - '{created_at,updated_at}'::text[] FROM leads.lead ORDER BY id
"""
TOMBSTONES = (
    "SELECT lead_id, external_id_hash, email_key_hash FROM leads.tombstone ORDER BY lead_id"
)

# Rows of tables that hold no lead.
VALUES = {
    "dead_letter": "(consumer_group, event_id, stream, entry_id, type, reason, error, attempts, "
    "fields) VALUES ('g', 'e', 's', '1-1', 't', 'error', '', 1, '{}')",
    "admin_action": "(actor, action, detail) VALUES ('a', 'b', '{}')",
    "sync_run": "(id, requested_by, state, started_at) VALUES "
    "(gen_random_uuid(), 'operator', 'failed', now())",
}

Services = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
def services(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> Services:
    """Return what runs a syncer and a summarizer."""

    @asynccontextmanager
    async def running() -> AsyncGenerator[None]:
        async with (
            running_syncer(postgres_settings, streams_settings, cache_settings),
            running_summarizer(
                summarizer_settings(postgres_settings, streams_settings), provider=Says()
            ),
        ):
            yield

    return running


class World:
    """What happens to leads, and what is known of them."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._database = database
        self._keys: dict[UUID, str] = {}

    async def apply(self, events: Sequence[Event]) -> Sequence[UUID]:
        """Have events applied; returns the leads that they are about."""
        await add_events(self._redis, events)
        await eventually(lambda: self._are_applied(events))
        return [UUID(event.subject) for event in events]

    async def _are_applied(self, events: Sequence[Event]) -> bool:
        ends = await EventStore(self._database).ends([event.id for event in events])
        return len(ends) == len(events)

    async def create(self, number: int) -> Sequence[UUID]:
        events = [lead_created() for _ in range(number)]
        self._keys |= {UUID(event.subject): event.key for event in events}
        return await self.apply(events)

    async def update(self, leads: Sequence[UUID], *, city: str) -> None:
        await self.apply(
            [lead_updated(lead, city=city, partition_key=self._keys[lead]) for lead in leads]
        )

    async def delete(self, leads: Sequence[UUID]) -> None:
        await self.apply([lead_deleted(lead, partition_key=self._keys[lead]) for lead in leads])

    async def summarise(self, leads: Sequence[UUID]) -> None:
        await add_events(
            self._redis,
            [
                Event(source="tests", subject=str(lead), data=SummaryRequested(lead_id=lead))
                for lead in leads
            ],
        )
        await eventually(lambda: self.are_summarised(leads))

    async def are_summarised(self, leads: Sequence[UUID]) -> bool:
        query = "SELECT id FROM leads.lead WHERE summary IS NOT NULL"
        done = {row[0] for row in await rows(self._database, query)}
        return set(leads) <= done

    async def lose(self) -> None:
        await self.execute("DROP SCHEMA leads CASCADE")

    async def execute(self, statement: str) -> None:
        async with self._database.connection() as connection:
            await connection.execute(statement)

    async def leads(self) -> Table:
        return await rows(self._database, LEADS)


@pytest.fixture
def world(redis: Redis, database: Database) -> World:
    return World(redis, database)


async def test_a_lost_database_comes_back_and_nobody_who_was_erased(
    ops: Ops, services: Services, world: World, database: Database, tmp_path: Path
) -> None:
    async with services():
        first = await world.create(12)
        await world.update(first[:4], city="Before")
        await world.delete([first[0]])
        await world.summarise(first[1:3])
        backup = (await ops("backup", "--to", str(tmp_path), "--json")).json
        # All this is younger than the backup.
        later = await world.create(5)
        await world.update([*first[3:6], *later[:2]], city="After")
        await world.summarise([first[7], later[1]])
        await world.delete([first[8], later[4]])
        # Of these the list beside the backup knows, of the next one only the stream.
        listed = (await ops("backup", "--to", str(tmp_path), "--json")).json
        await world.delete([first[9]])
        before, gone = await world.leads(), await rows(database, TOMBSTONES)
    assert (backup["leads"], backup["erased"], listed["erased"]) == (11, 1, 2)

    await world.lose()
    restored = (await ops("restore", backup["path"], "--yes", "--json")).json
    assert (restored["leads"], restored["erased"], restored["differences"]) == (11, 1, [])
    assert str(first[8]) not in str(await world.leads())
    async with services():

        async def all_is_back() -> bool:
            assert await rows(database, TOMBSTONES) == gone
            return [_without_summary(row) for row in await world.leads()] == [
                _without_summary(row) for row in before
            ]

        await eventually(all_is_back)
        replay = ("replay", "--from", "stream", "--stream", "stream:summaries", "--with-model")
        assert (await ops(*replay, "--yes", "--json")).json["dead"] == 0
        await eventually(lambda: world.are_summarised([first[7], later[1]]))
        assert await world.leads() == before


def _without_summary(row: tuple[Any, ...]) -> dict[str, Any]:
    lead: dict[str, Any] = orjson.loads(row[0])
    for name in ("summary", "next_action", "version", "summary_stale"):
        del lead[name]
    return lead


async def test_without_the_streams_the_list_keeps_erased_people_away(
    ops: Ops, services: Services, world: World, redis: Redis, database: Database, tmp_path: Path
) -> None:
    async with services():
        leads = await world.create(4)
        backup = (await ops("backup", "--to", str(tmp_path), "--json")).json
        await world.delete(leads[:2])
        await ops("backup", "--to", str(tmp_path))
        gone = await rows(database, TOMBSTONES)
    await world.lose()
    await redis.flushall()
    restored = (await ops("restore", backup["path"], "--yes", "--json")).json
    assert (restored["leads"], restored["erased"]) == (4, 2)
    assert {row[0] for row in await rows(database, "SELECT id FROM leads.lead")} == set(leads[2:])
    assert await rows(database, TOMBSTONES) == gone
    known = "SELECT DISTINCT subject::uuid FROM leads.event WHERE data <> '{}'"
    told = "type <> 'lead-deleted'"
    assert {row[0] for row in await rows(database, f"{known} AND {told}")} == set(leads[2:])
    await world.lose()  # and so it would be without the list
    restored = await ops("restore", backup["path"], "--yes", "--without-erasures")
    assert (restored.code, len(await world.leads())) == (0, 4)
    # As after a restore by other means.
    for path, erased in ((str(tmp_path), 2), (backup["path"], 0)):
        ended = await ops("restore", path, "--only-erasures", "--yes", "--json")
        assert ended.json == {"erased": erased}
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    ended = await ops("restore", str(nothing), "--only-erasures", "--yes")
    assert (ended.code, f"There is no {nothing}/erased.ndjson" in ended.stderr) == (1, True)
    assert len(await world.leads()) == 2


async def test_a_restore_overwrites_nothing(
    ops: Ops, world: World, database: Database, tmp_path: Path
) -> None:
    await insert_lead(database)
    await ops("backup", "--to", str(tmp_path))
    before = await world.leads()
    ended = await ops("restore", str(tmp_path), "--yes")
    assert (ended.code, "is not empty" in ended.stderr) == (1, True)
    assert await world.leads() == before


@pytest.mark.parametrize("table", VALUES)
async def test_a_schema_with_anything_in_it_is_not_dropped(
    table: str, ops: Ops, world: World, tmp_path: Path
) -> None:
    await ops("backup", "--to", str(tmp_path))
    await world.execute("DELETE FROM leads.admin_action")
    await world.execute(f"INSERT INTO leads.{table} {VALUES[table]}")
    assert (await ops("restore", str(tmp_path), "--yes")).code == 1
    await world.execute(f"TRUNCATE leads.{table}")
    assert (await ops("restore", str(tmp_path), "--yes")).code == 0


async def test_what_is_not_what_was_backed_up_is_said(
    ops: Ops, world: World, database: Database, tmp_path: Path
) -> None:
    await insert_lead(database)
    backup = (await ops("backup", "--to", str(tmp_path), "--json")).json
    manifest = Path(backup["path"]) / "manifest.json"
    changed = orjson.loads(manifest.read_bytes())
    changed["facts"]["tables"]["lead"]["hash"] = "0"
    changed["facts"]["tables"]["event"]["rows"] = 7
    changed["facts"]["tables"]["other"] = {"rows": 1, "hash": "1"}
    manifest.write_bytes(orjson.dumps(changed))
    await world.lose()
    ended = await ops("restore", backup["path"], "--yes", "--json")
    assert ended.code == 1
    assert ended.json["differences"] == [
        "event: 0 rows, 7 in the backup",
        "lead: other contents",
        "other: missing",
    ]


async def test_a_damaged_dump_is_refused_before_anything_is_done(
    ops: Ops, database: Database, tmp_path: Path
) -> None:
    backup = (await ops("backup", "--to", str(tmp_path), "--json")).json
    with (Path(backup["path"]) / "leads.dump").open("r+b") as dump:
        dump.seek(1_000)
        dump.write(b"?")
    ended = await ops("restore", backup["path"], "--yes")
    assert (ended.code, "has changed since it was made" in ended.stderr) == (1, True)
    assert await rows(database, "SELECT count(*) FROM leads.lead") == [(0,)]


async def test_without_the_list_a_restore_asks_for_it(
    ops: Ops, world: World, tmp_path: Path
) -> None:
    backup = (await ops("backup", "--to", str(tmp_path), "--json")).json
    elsewhere = (tmp_path / "erased.ndjson").rename(tmp_path / "list")
    await world.lose()
    ended = await ops("restore", backup["path"], "--yes")
    assert (ended.code, "--without-erasures" in ended.stderr) == (1, True)
    assert (await ops("restore", backup["path"], "--yes", "--erased", str(elsewhere))).code == 0


async def test_backups_are_for_their_owner_old_ones_go_and_the_last_is_recorded(
    ops: Ops, database: Database, tmp_path: Path
) -> None:
    target = tmp_path / "new"
    log = AdminLog(database)
    assert await log.last_ended("backup") is None
    for day in (1, 2, 3):
        (target / f"leads-2026010{day}T000000.000000Z").mkdir(parents=True)
    (target / "notes").mkdir()
    began = datetime.now(UTC)
    ended = await ops("backup", "--to", str(target), "--keep", "2")
    assert (ended.code, "2 older backups were removed" in ended.stdout) == (0, True)
    kept = sorted(os.listdir(target))  # noqa: PTH208 (ASYNC240 wants no Path here)
    assert kept[:3] == [".lock", "erased.ndjson", "leads-20260103T000000.000000Z"]
    assert kept[4:] == ["notes"]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in target.glob("leads-*/*.*")}
    assert modes == {0o600}
    last = await log.last_ended("backup")
    assert last is not None
    assert abs(last - began) < timedelta(seconds=60)


async def test_a_line_that_a_crash_cut_off_is_written_again(
    ops: Ops, database: Database, tmp_path: Path
) -> None:
    gone = [await insert_lead(database) for _ in range(3)]
    async with database.transaction() as connection:
        await delete_rows(connection, dict.fromkeys(gone, datetime.now(UTC)))
    await ops("backup", "--to", str(tmp_path))
    listed = tmp_path / "erased.ndjson"
    whole = listed.read_bytes()
    for left in (whole[:-1], whole[:-40], whole[:7], b""):
        listed.write_bytes(left)
        assert (await ops("backup", "--to", str(tmp_path))).code == 0
        assert {one.lead_id for one in read_erasures(listed)} == set(gone)


@pytest.mark.parametrize("trouble", ["below a file", "the list is a folder", "another at work"])
async def test_what_is_wrong_with_the_directory_is_said(
    trouble: str, ops: Ops, database: Database, tmp_path: Path
) -> None:
    target, says = tmp_path, "Is a directory"
    with contextlib.ExitStack() as stack:
        if trouble == "below a file":
            (tmp_path / "file").touch()
            target, says = tmp_path / "file" / "backups", "Not a directory"
        elif trouble == "another at work":
            says = "is under way"
            stack.enter_context(BackupDirectory(tmp_path).locked())
        else:
            (tmp_path / "erased.ndjson").mkdir()
        ended = await ops("backup", "--to", str(target))
    assert ended.code == 1
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (
        await AdminLog(database).last_ended("backup") is None or trouble == "the list is a folder"
    )


async def test_a_schedule_makes_what_is_due_and_goes_on(
    ops: Ops, database: Database, tmp_path: Path
) -> None:
    arguments = ("backup", "--to", str(tmp_path), "--schedule", "0 0 1 1 *")
    assert (await ops(*arguments, "--check")).code == 1
    command = await ops.start(*arguments)

    async def is_made() -> bool:
        return await AdminLog(database).last_ended("backup") is not None

    await eventually(is_made)
    assert (await ops(*arguments, "--check")).code == 0
    command.send_signal(15)
    code, output, _ = await command.end()
    assert (code, "0 leads and 0 events" in output) == (0, True)
    # Another start finds nothing due.
    assert len(BackupDirectory(tmp_path).backups()) == 1


async def test_tools_of_another_version_are_refused(ops: Ops, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    (tools / "pg_dump").chmod(0o755)
    ops.environment["PG_BIN"] = str(tools)
    ended = await ops("backup", "--to", str(tmp_path / "backups"))
    assert ended.code == 1
    assert f"but of 9 in {tools}" in ended.stderr
    assert "Install postgresql-client-18" in ended.stderr


async def test_an_unreachable_database_fails_and_leaves_nothing(ops: Ops, tmp_path: Path) -> None:
    ops.environment["SUPABASE_CONNECTION_STRING"] = "postgresql://postgres:x@127.0.0.1:9/leads"
    ended = await ops("backup", "--to", str(tmp_path))
    assert (ended.code, "unavailable" in ended.stderr) == (1, True)
    assert BackupDirectory(tmp_path).backups() == []
    ended = await ops("migrate")
    assert (ended.code, ended.stderr.count("\n")) == (1, 1)
