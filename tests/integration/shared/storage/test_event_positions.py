"""The positions of archived events: the order in which they were applied."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from ops.storage.archive_copy import ArchiveCopy, ArchivedEvent
from shared.events.catalog import LEADS, SYNCER
from shared.events.envelope import new_id
from shared.events.replay import ReplayOrder, ReplayOrigin, Selection
from shared.storage.event_archive import ArchiveSource, EventArchive
from shared.storage.pool import Database

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = (
    "id, type, source, subject, dataschema, data, time, correlation_id, payload_hash, outcome, "
    "detail, recorded_at"
)
ONE, OTHER = "one", "other"


async def test_a_replay_reads_what_was_committed_late_and_nothing_that_came_after_it(
    database: Database,
) -> None:
    archive = EventArchive(database)
    async with database.transaction() as late:
        await _insert(late, ONE, "created", None, 0)
        async with database.connection() as early:
            await _insert(early, OTHER, "created", None, 1)
    order = ReplayOrder(
        origin=ReplayOrigin.ARCHIVE,
        stream=LEADS,
        group=SYNCER,
        rate=1,
        last_position=await archive.last_position(),
    )
    subjects: list[str] = []
    async for page in ArchiveSource(database, order).pages(after=None):
        subjects += [fields[b"subject"].decode() for fields in page.events]
        async with database.connection() as connection:
            await _insert(connection, "new", "created", None, -1)
    assert subjects == [ONE, OTHER]


async def test_an_order_from_before_events_had_numbers_begins_anew(database: Database) -> None:
    async with database.connection() as connection:
        await _insert(connection, ONE, "created", None, 0)
    order = ReplayOrder(origin=ReplayOrigin.ARCHIVE, stream=LEADS, group=SYNCER)
    kept = f"{BEGINNING.isoformat()}/{new_id()}"
    pages = [page async for page in ArchiveSource(database, order).pages(after=kept)]
    assert [page.position for page in pages] == [str(await EventArchive(database).last_position())]


async def test_imported_events_keep_their_positions_where_these_are_free(
    database: Database,
) -> None:
    events = [_exported(position) for position in (3, 7, 9)]
    copy = ArchiveCopy(database)
    assert await copy.add_events(events) == 3
    assert await _positions(database) == {one.id: one.position for one in events}
    # What is applied from now on comes after them, and reading the file again changes nothing.
    async with database.connection() as connection:
        await _insert(connection, ONE, "created", None, 0)
    assert await EventArchive(database).last_position() == 10
    assert await ArchiveCopy(database).add_events(events) == 0


async def test_imported_events_keep_their_order_where_positions_are_taken(
    database: Database,
) -> None:
    first, second, third = (_exported(position) for position in (1, 2, 9))
    await ArchiveCopy(database).add_events([_exported(2)])
    copy = ArchiveCopy(database)
    await copy.add_events([first])
    await copy.add_events([second])
    await copy.add_events([third, _exported(None)])
    positions = await _positions(database)
    assert (positions[first.id], positions[second.id], positions[third.id]) == (1, 3, 4)


async def test_events_exported_without_positions_keep_the_order_of_the_file(
    database: Database,
) -> None:
    events = [_exported(None) for _ in range(20)]
    await ArchiveCopy(database).add_events(events)
    assert list(await _positions(database)) == [one.id for one in events]


async def test_imports_and_events_that_are_applied_meanwhile_share_no_position(
    database: Database,
) -> None:
    async def apply() -> None:
        for place in range(30):
            async with database.connection() as connection:
                await _insert(connection, ONE, "created", None, place)

    async def import_() -> None:
        copy = ArchiveCopy(database)
        for start in range(1, 61, 5):
            await copy.add_events([_exported(start + place) for place in range(5)])

    await asyncio.gather(apply(), import_())
    assert len(await _positions(database)) == 90


async def test_the_latest_events_are_those_applied_last(database: Database) -> None:
    async with database.connection() as connection:
        for subject, place in ((ONE, 1), (OTHER, 0)):
            await _insert(connection, subject, "created", None, place)
    latest = await EventArchive(database).latest(Selection(), limit=2)
    assert [event.subject for event in latest] == [OTHER, ONE]


async def _insert(
    connection: Any, subject: str, outcome: str, version: int | None, place: int
) -> None:
    """Add an event, recorded so many seconds after the beginning."""
    detail = None if version is None else f'{{"version": {version}}}'
    await connection.execute(
        f"INSERT INTO leads.event ({COLUMNS}) VALUES ($1, 'lead-updated', 'tests', $2, '', "  # noqa: S608 (constants)
        """'{"a": 1}', $3, '', '', $4, $5, $3)""",
        new_id(),
        subject,
        BEGINNING + timedelta(seconds=place),
        outcome,
        detail,
    )


def _exported(position: int | None) -> ArchivedEvent:
    return ArchivedEvent(
        id=new_id(),
        type="lead-created",
        source="tests",
        subject=ONE,
        dataschema="",
        data={"a": 1},
        time=BEGINNING,
        correlation_id="",
        payload_hash=r"\x" + "0" * 64,
        outcome="created",
        detail=None,
        recorded_at=BEGINNING,
        position=position,
    )


async def _positions(database: Database) -> dict[UUID, int | None]:
    async with database.connection() as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            "SELECT id, position FROM leads.event ORDER BY position"
        )
    return {row["id"]: row["position"] for row in rows}
