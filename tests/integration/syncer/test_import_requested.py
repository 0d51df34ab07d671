"""import-requested in the syncer: what does not show in the file's rows."""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import orjson
import pytest
from redis.asyncio import Redis

from services.syncer.handlers.import_requested import ImportRequestedHandler
from services.syncer.storage.imports import ImportRepository
from shared.domain.errors import UnfinishedError
from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.data import ImportRequested, row_event_id
from shared.events.envelope import Event, new_id
from shared.events.outcome import Outcome
from shared.storage.inbox import EventStore
from shared.storage.lead_document import LeadRepository
from shared.storage.pool import Database
from shared.streams.codec import decode
from shared.streams.imports import LOST, ImportFiles, ImportJobs, file_key
from shared.streams.publisher import add_events
from tests.integration.syncer.conftest import Handlers, StartSyncer, created, rows
from tests.support.builders import lead_updated
from tests.support.eventually import eventually
from tests.support.lead_csv import csv_file, mixed_report, mixed_rows
from tests.support.lead_table import refuse_defects
from tests.support.partitions import lead_entries, lead_streams

DETAIL = "SELECT outcome, detail::text FROM leads.event WHERE id = $1"
LEADS_STORED = "SELECT FROM leads.lead"
PARKED = "SELECT event_id FROM leads.dead_letter"

Damage = Callable[[Redis, str], Awaitable[Any]]


def requested(
    content: bytes = b"", *, mode: ImportMode = ImportMode.CREATE
) -> Event[ImportRequested]:
    return Event(
        id=row_event_id(new_id(), 0),
        source="tests",
        subject="import",
        data=ImportRequested(
            format=FileFormat.CSV,
            mode=mode,
            mapping={},
            dry_run=False,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            requested_by="somebody",
        ),
    )


async def keep(redis: Redis, event: Event, *chunks: bytes) -> None:
    """Keep the import's file in these parts."""
    async with ImportFiles(redis).uploading(event.id) as upload:
        for chunk in chunks:
            await upload.append(chunk)
        await upload.keep()


def halves(content: bytes) -> tuple[bytes, bytes]:
    """Return a file in two parts, cut between two lines."""
    middle = content.index(b"\n", len(content) // 2) + 1
    return content[:middle], content[middle:]


def handler_of(
    redis: Redis, database: Database, *, part: timedelta = timedelta(0), lost: timedelta = LOST
) -> ImportRequestedHandler:
    """Return a handler to be called by hand. Its deliveries see to one window, or wait for it."""
    jobs, imports = ImportJobs(redis, lost=lost), ImportRepository(database)
    events, leads = EventStore(database), LeadRepository(database)
    return ImportRequestedHandler(ImportFiles(redis), jobs, imports, events, leads, part=part)


async def deliver(handler: ImportRequestedHandler, event: Event[ImportRequested]) -> Outcome | None:
    """Deliver the event, and return the import's end if it has come to that."""
    with contextlib.suppress(UnfinishedError):
        [outcome] = await handler([event])
        return outcome
    return None


async def end_of(database: Database, event: Event) -> tuple[str, dict[str, Any]]:
    store = EventStore(database)
    await eventually(lambda: store.is_applied(event.id))
    [row] = await rows(database, DETAIL, event.id)
    return row["outcome"], orjson.loads(row["detail"])


async def is_forgotten(redis: Redis) -> bool:
    return not await redis.keys("import:*:file") and not await ImportFiles(redis).waiting()


async def test_without_its_file_an_import_fails(
    start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    event = requested()
    async with start_syncer():
        await add_events(redis, [event])
        outcome, detail = await end_of(database, event)
    assert (outcome, detail["code"], detail["progress"]["rows"]) == ("failed", "file-gone", 0)


async def lose_the_end(redis: Redis, key: str) -> None:
    await cast("Awaitable[Any]", redis.rpop(key))


async def cut_the_end_short(redis: Redis, key: str) -> None:
    chunk = await cast("Awaitable[bytes]", redis.lindex(key, -1))
    await cast("Awaitable[Any]", redis.lset(key, -1, cast("str", chunk[:-10])))


async def repeat_the_beginning(redis: Redis, key: str) -> None:
    chunk = await cast("Awaitable[bytes]", redis.lindex(key, 0))
    await cast("Awaitable[Any]", redis.lset(key, -1, cast("str", chunk)))


@pytest.mark.parametrize("damage", [lose_the_end, cut_the_end_short, repeat_the_beginning])
async def test_of_a_damaged_file_no_row_is_written(
    damage: Damage, start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    content = csv_file(mixed_rows(40))
    event = requested(content)
    await keep(redis, event, *halves(content))
    await damage(redis, file_key(redis, event.id))
    async with start_syncer():
        await add_events(redis, [event])
        outcome, detail = await end_of(database, event)
        await eventually(lambda: is_forgotten(redis))
    assert (outcome, detail["code"], detail["progress"]["rows"]) == ("failed", "file-damaged", 0)
    assert await rows(database, LEADS_STORED) == []


async def test_a_file_that_is_damaged_midway_is_not_counted_as_whole(
    start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    content = csv_file(mixed_rows(1_200))
    event, handler, jobs = requested(content), handler_of(redis, database), ImportJobs(redis)
    await keep(redis, event, *halves(content))
    async with start_syncer():

        async def has_begun() -> bool:
            assert await deliver(handler, event) is None
            return await jobs.progress(event.id) is not None

        await eventually(has_begun)
        await lose_the_end(redis, file_key(redis, event.id))
        [outcome] = await handler([event])
    detail = orjson.loads(outcome.body)
    assert (outcome.status, detail["code"]) == ("failed", "file-damaged")
    assert detail["progress"]["rows"] == 500


async def test_an_import_that_comes_again_changes_nothing(
    start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    content = csv_file(["Ada,King,ada@example.com,"])
    event = requested(content)
    async with start_syncer():
        for _ in range(2):
            await keep(redis, event, content)
            await add_events(redis, [event])
            outcome, detail = await end_of(database, event)
            assert (outcome, detail["progress"]["created"]) == ("imported", 1)
            await eventually(lambda: is_forgotten(redis))
    assert len(await rows(database, LEADS_STORED)) == 1


async def test_a_row_changes_a_lead_under_the_leads_key(
    handlers: Handlers, redis: Redis, database: Database
) -> None:
    first, second, new = (str(uuid4()) for _ in range(3))
    lead_id = await created(handlers, external_id=UUID(first))
    await handlers.one(lead_updated(lead_id, external_id=UUID(second)))
    lines = (f"Ada,King,{number}@example.com,{key}" for number, key in enumerate((second, new)))
    content = csv_file(lines, header="First Name,Last Name,Email,External Id")
    event = requested(content, mode=ImportMode.UPSERT)
    await keep(redis, event, content)
    assert await deliver(handler_of(redis, database), event) is None
    events = [decode(entry.fields) for entry in await lead_entries(redis)]
    assert {one.key for one in events} == {first, new}


async def test_a_row_whose_event_was_parked_is_refused_and_reported(
    start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    await refuse_defects(database)
    names = ("King", "Defect", "Byron")
    content = csv_file(f"Ada,{name},{name}@example.com," for name in names)
    event = requested(content)
    await keep(redis, event, content)
    async with start_syncer(max_attempts=1):
        await add_events(redis, [event])
        outcome, detail = await end_of(database, event)
    counts = {"rows": 3, "created": 2, "refused": 1}
    assert (outcome, detail["progress"]) == ("imported", mixed_report(0) | counts)
    assert await rows(database, PARKED) == [{"event_id": str(row_event_id(event.id, 2))}]
    lines = b"".join([chunk async for chunk in ImportJobs(redis).errors(event.id)])
    assert orjson.loads(lines) == {"row": 2, "errors": {"row": "Could not be written"}}


async def test_row_events_that_were_lost_with_redis_are_published_again(
    start_syncer: StartSyncer, redis: Redis, database: Database
) -> None:
    content = csv_file(mixed_rows(40))
    event = requested(content)
    await keep(redis, event, content)
    part, lost = timedelta(milliseconds=50), timedelta(seconds=1)
    handler = handler_of(redis, database, part=part, lost=lost)
    assert await deliver(handler, event) is None
    published = await lead_entries(redis)
    # Rows with an address that another one has wait for that one's end.
    assert len(published) == mixed_report(40)["created"]
    for stream in await lead_streams(redis):
        await redis.xdel(stream, *(entry.id for entry in published[::2]))
    async with start_syncer():
        outcome = await eventually(lambda: deliver(handler, event))
    assert orjson.loads(outcome.body)["progress"] == mixed_report(40)
    assert len(await rows(database, LEADS_STORED)) == mixed_report(40)["created"]
