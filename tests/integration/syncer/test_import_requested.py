"""import-requested in the syncer: what the file's rows cannot tell."""

from typing import Any

import orjson
from redis.asyncio import Redis

from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.envelope import Event, new_id
from shared.events.import_events import ImportRequested
from shared.lead_files.row_events import row_event_id
from shared.storage.event_store import EventStore
from shared.storage.pool import Database
from shared.streams.import_files import ImportFiles
from shared.streams.publisher import add_events
from tests.integration.syncer.conftest import StartSyncer, rows
from tests.support.eventually import eventually
from tests.support.lead_csv import csv_file

DETAIL = "SELECT outcome, detail::text FROM leads.event WHERE id = $1"


def requested() -> Event:
    return Event(
        id=row_event_id(new_id(), 0),
        source="tests",
        subject="import",
        data=ImportRequested(
            format=FileFormat.CSV,
            mode=ImportMode.CREATE,
            mapping={},
            dry_run=False,
            sha256="",
            size=0,
            requested_by="somebody",
        ),
    )


async def end_of(database: Database, event: Event) -> tuple[str, dict[str, Any]]:
    store = EventStore(database)
    await eventually(lambda: store.is_applied(event.id))
    [row] = await rows(database, DETAIL, event.id)
    return row["outcome"], orjson.loads(row["detail"])


async def test_without_its_file_an_import_fails(
    start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    event = requested()
    async with start_syncer():
        await add_events(redis, [event])
        outcome, detail = await end_of(database, event)
    assert (outcome, detail["code"], detail["progress"]["rows"]) == ("failed", "file-gone", 0)


async def test_an_import_that_comes_again_changes_nothing(
    start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    event, files = requested(), ImportFiles(redis)
    async with start_syncer():
        for _ in range(2):
            async with files.uploading() as upload:
                await upload.append(csv_file(["Ada,King,ada@example.com,"]))
                await upload.keep_as(event.id)
            await add_events(redis, [event])
            outcome, detail = await end_of(database, event)
            assert (outcome, detail["progress"]["created"]) == ("imported", 1)

            async def is_forgotten() -> bool:
                return not await redis.keys("import:*:file") and not await files.waiting()

            await eventually(is_forgotten)
    assert len(await rows(database, "SELECT FROM leads.lead")) == 1
