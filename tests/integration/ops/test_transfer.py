"""What is exported can be imported: events to rebuild a system, leads to feed one."""

import csv
import os
import re
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast
from uuid import UUID

import orjson
import pytest
from redis.asyncio import Redis

from shared.events.catalog import LEADS
from shared.events.data import LeadCreated
from shared.events.envelope import Event, new_id
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from tests.integration.ops.conftest import Apply, Ops, StartSyncer, Table, rows
from tests.support.builders import lead_created
from tests.support.lead_csv import csv_file

Leads = Callable[[], Awaitable[Table]]
EVENTS = "SELECT * FROM leads.event ORDER BY id"


async def test_an_empty_database_is_rebuilt_from_an_export_of_its_events(
    ops: Ops,
    syncer: StartSyncer,
    create: Apply,
    leads: Leads,
    database: Database,
    redis: Redis,
    tmp_path: Path,
) -> None:
    file = str(tmp_path / "events.ndjson")
    async with syncer():
        events = await create(25)
        await add_events(redis, [lead_created(events[0].data.lead)])  # type: ignore[attr-defined]  # a duplicate
        await create(1)
        before = await leads(), await rows(database, EVENTS)
        assert (await ops("export", "events", "-o", file)).code == 0
        async with database.connection() as connection:
            await connection.execute("TRUNCATE leads.lead, leads.event CASCADE")
        await redis.xtrim(LEADS, maxlen=0, approximate=False)
        imported = (await ops("import", "events", file, "--yes", "--json")).json
        report = (await ops("replay", "--from", "archive", "--json")).json
        again = (await ops("import", "events", file, "--yes", "--json")).json
    assert imported == {"rows": 27, "added": 27, "known": 0, "invalid": 0}
    assert (report["applied_now"], report["already_applied"]) == (26, 1)
    assert (await leads(), await rows(database, EVENTS)) == before
    assert (again["added"], again["known"]) == (0, 27)


async def test_an_export_is_for_its_owner_alone_and_appears_when_complete(
    ops: Ops, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    await ops("export", "events", "-o", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [file.name]  # noqa: PTH208 (ASYNC240 wants no Path here)
    nowhere = await ops("export", "events", "-o", str(tmp_path / "no" / "file"))
    assert (nowhere.code, "cannot be written" in nowhere.stderr) == (1, True)


async def test_exported_leads_can_be_imported_elsewhere(
    ops: Ops, syncer: StartSyncer, create: Apply, database: Database, tmp_path: Path
) -> None:
    for name, chosen in (("leads.csv", "csv"), ("leads.ndjson", "ndjson")):
        file = str(tmp_path / name)
        async with syncer():
            await create(12)
            theirs = await _as_given(database)
            assert (await ops("export", "leads", "--format", chosen, "-o", file)).code == 0
            async with database.connection() as connection:
                await connection.execute("TRUNCATE leads.lead, leads.event CASCADE")
            report = (await ops("import", "leads", file, "--yes", "--json")).json
            assert report["created"] == report["rows"] == len(theirs)
            assert await _as_given(database) == theirs
            again = (await ops("import", "leads", file, "--yes", "--json")).json
            assert (again["created"], again["duplicate"]) == (0, len(theirs))


async def test_bad_rows_are_listed_by_number_and_the_good_ones_land(
    ops: Ops, syncer: StartSyncer, leads: Leads, tmp_path: Path
) -> None:
    file, errors = tmp_path / "leads.csv", tmp_path / "errors.ndjson"
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["First Name", "last_name", "Email", "phone"])
        writer.writerow(["Ada", "Lovelace", "ada@example.com", ""])
        writer.writerow(["", "Hopper", "grace@example", "1"])
        writer.writerow(["Mary", "Somerville", "mary@example.com", "+44 20 7946 0018"])
        writer.writerow(["short"])
    arguments = ("import", "leads", str(file), "--errors", str(errors))
    async with syncer():
        checked = await ops(*arguments, "--dry-run", "--json")
        assert (checked.json["invalid"], checked.json["created"], checked.code) == (2, 2, 1)
        assert await leads() == []
        report = (await ops(*arguments, "--yes", "--json")).json
    others = {"updated": 0, "duplicate": 0, "refused": 0}
    assert report == {"rows": 4, "created": 2, "invalid": 2, **others}
    refused = [orjson.loads(line) for line in errors.read_bytes().splitlines()]
    assert [problem["row"] for problem in refused] == [2, 4]
    assert set(refused[0]["errors"]) == {"firstName", "email", "phone"}
    assert len(await leads()) == 2


async def test_columns_are_mapped_and_leads_that_are_known_changed(
    ops: Ops, syncer: StartSyncer, create: Apply, leads: Leads, database: Database, tmp_path: Path
) -> None:
    file, external_id = tmp_path / "leads.csv", new_id()
    async with syncer():
        [known] = await create(1)
        file.write_text(
            "Key;Vorname;Name: last;Email;Town;Notes\n"
            f"{_external_id(known)};Ada;King;ada.king@example.org;Paris;x\n"
            f"{external_id};Mary;Somerville;mary@example.org;Jedburgh;y\n"
        )
        mapping = ("Key:externalId", "Vorname:firstName", "Name: last:lastName", "Town:city")
        options = [argument for one in (*mapping, "Notes:") for argument in ("--map", one)]
        arguments = ("import", "leads", str(file), "--mode", "upsert", *options, "--json")
        checked = (await ops(*arguments, "--dry-run")).json
        assert len(await leads()) == 1
        ended = await ops(*arguments, "--yes")
    expected = {"rows": 2, "created": 1, "updated": 1}
    assert ended.code == 0
    assert ended.json == checked == dict.fromkeys(ended.json, 0) | expected
    query = "SELECT external_id, first_name, last_name, city FROM leads.lead"
    assert set(await rows(database, query)) == {
        (_external_id(known), "Ada", "King", "Paris"),
        (external_id, "Mary", "Somerville", "Jedburgh"),
    }


async def test_files_are_read_as_the_api_reads_them(
    ops: Ops, syncer: StartSyncer, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "leads.TXT"
    header = "sep=;\r\nFirst Name;Last Name;Email;Status;\r\n"
    rows = 'Ad\xe8le;"King;a@example.com;x;\r\n ; ;;;\r\nJos\xe9;K;b@example.com;banana;\r\n'
    file.write_bytes(f"{header}{rows}".encode("cp1252"))
    arguments = ("import", "leads", str(file), "--yes", "--json")
    async with syncer():
        named = await ops(*arguments, "--charset", "windows-1252")
        unnamed = await ops(*arguments)
        exported = await ops("export", "leads", "--format", "csv", "--bom")
    assert (named.json["created"], named.json["invalid"]) == (1, 1)
    assert "Columns that cannot be imported: status" in named.stderr
    assert "Row 1: Has a quote that is never closed" in named.stderr.replace("row: ", "")
    assert (unnamed.json["created"], "windows-1252 (Latin-1)" in unnamed.stderr) == (0, True)
    assert exported.stdout.startswith("\ufeffid,")
    assert [row[0] for row in await rows_of_names(database)] == ["Jos\xe9"]


async def rows_of_names(database: Database) -> Table:
    return await rows(database, "SELECT first_name FROM leads.lead")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--charset", "rot13"), 2, "Is no encoding that is known"),
        (("--map", "Mail:mail"), 2, "Must be a title and one of these: externalId,"),
        (("--map", "Mail:email"), 1, "Mail: Is mapped, and not in the file"),
        (("--map", "Mail:email", "--format", "ndjson"), 2, "--map is for columns of CSV"),
        (("--mode", "upsert"), 1, "externalId: Is missing"),
        (("--mode", "replace"), 2, "'replace' is not one of 'create', 'upsert'"),
    ],
)
async def test_what_a_file_cannot_be_read_by_is_refused(
    arguments: tuple[str, ...], code: int, message: str, ops: Ops, leads: Leads, tmp_path: Path
) -> None:
    file = tmp_path / "leads.csv"
    file.write_bytes(csv_file(["Ada,King,ada@example.com,"]))
    ended = await ops("import", "leads", str(file), *arguments, "--yes")
    assert (ended.code, message in ended.stderr) == (code, True), ended.stderr
    assert await leads() == []


async def test_lines_that_are_no_events_are_listed_and_the_others_added(
    ops: Ops, syncer: StartSyncer, create: Apply, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    async with syncer():
        await create(3)
    await ops("export", "events", "-o", str(file))
    before = await rows(database, EVENTS)
    line = file.read_bytes().splitlines(keepends=True)[0]
    nul = line.replace(b"tests", b"\\u0000tests")
    nul_within = line.replace(b'"data":{', b'"data":{"a": ["\\u0000"], ')
    beyond = re.sub(rb'"position":\d+', b'"position":%d' % 2**64, line)
    assert len({line, nul, nul_within, beyond}) == 4, "all were altered"
    file.write_bytes(file.read_bytes() + b"{}\n" + nul + b"not json\n\xff\n" + nul_within + beyond)
    async with database.connection() as connection:
        await connection.execute("TRUNCATE leads.event CASCADE")
    ended = await ops("import", "events", str(file), "--yes", "--json")
    assert ended.json == {"rows": 9, "added": 3, "known": 0, "invalid": 6}
    assert ended.code == 1
    assert "Line 4: id Field required" in ended.stderr
    assert await rows(database, EVENTS) == before


async def test_events_of_an_older_export_have_no_stamps(
    ops: Ops, syncer: StartSyncer, create: Apply, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    async with syncer():
        await create(1)
    await ops("export", "events", "-o", str(file))
    line = orjson.loads(file.read_bytes())
    assert line.pop("applied_at") is not None
    file.write_bytes(orjson.dumps(line))
    async with database.connection() as connection:
        await connection.execute("TRUNCATE leads.event CASCADE")
    assert (await ops("import", "events", str(file), "--yes", "--json")).json["added"] == 1
    assert await rows(database, "SELECT applied_at FROM leads.event") == [(None,)]


async def test_an_export_to_standard_output_is_nothing_but_the_export(
    ops: Ops, syncer: StartSyncer, create: Apply
) -> None:
    async with syncer():
        events = await create(3)
    exported = await ops("export", "events", "--lead", events[1].subject)
    [line] = exported.stdout.splitlines()
    assert orjson.loads(line)["subject"] == events[1].subject
    assert "1 exported" in exported.stderr


async def _as_given(database: Database) -> Table:
    return await rows(
        database,
        "SELECT external_id, first_name, last_name, email, phone, cell, dob, city, state, "
        "country, picture FROM leads.lead ORDER BY external_id",
    )


def _external_id(created: Event) -> UUID:
    external_id = cast("LeadCreated", created.data).lead.external_id
    assert external_id is not None
    return external_id
