"""import-requested in the syncer: what does not show in the file's rows."""

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID, uuid4

import orjson
import pytest
from redis.asyncio import Redis

from services.syncer.handlers.import_requested import ImportRequestedHandler
from services.syncer.handlers.lead_created import LeadCreatedHandler
from services.syncer.imports import LANES, WINDOW
from services.syncer.row_events import SHARED_BATCH
from services.syncer.storage.creation import LeadCreationRepository
from services.syncer.storage.imports import ImportRepository
from shared.domain.errors import UnavailableError, UnfinishedError
from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.catalog import LEADS, SYNCER
from shared.events.data import (
    ImportRequested,
    LeadCreated,
    LeadUpserted,
    row_event_id,
    row_lead_id,
)
from shared.events.envelope import Event, new_id
from shared.events.outcome import Outcome
from shared.storage.inbox import EventStore, WriteResult
from shared.storage.lead_document import LeadRepository
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.codec import decode
from shared.streams.consuming.group import last_entry
from shared.streams.consuming.subscription import Handler
from shared.streams.imports import LOST, MOST_WAITING, ImportFiles, ImportJobs, file_key
from shared.streams.ordering.layout import ClosedError, Divisions
from shared.streams.ordering.partition import accepted_at
from shared.streams.publisher import add_events
from tests.integration.syncer.conftest import Handlers, StartSyncer, created, rows
from tests.support.builders import lead_created, lead_updated, lead_upserted
from tests.support.eventually import eventually
from tests.support.lead_csv import csv_file, mixed_report, mixed_rows
from tests.support.lead_table import refuse_defects
from tests.support.partitions import lead_entries, lead_streams, show_position

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
    redis: Redis,
    database: Database,
    *,
    part: timedelta = timedelta(0),
    lost: timedelta = LOST,
    handlers: Mapping[str, Handler] = MappingProxyType({}),
) -> ImportRequestedHandler:
    """Return a handler to be called by hand. Its deliveries see to one window, or wait for it.

    What a row asks for is published unless it has a handler here.
    """
    jobs, imports = ImportJobs(redis, lost=lost), ImportRepository(database)
    events, leads = EventStore(database), LeadRepository(database)
    return ImportRequestedHandler(
        ImportFiles(redis), jobs, imports, events, leads, handlers=handlers, part=part
    )


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
    assert detail["progress"]["rows"] == WINDOW


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


# Rows that are applied without the stream.

KEYED = "First Name,Last Name,Email,External Id"
NAMES = "SELECT last_name FROM leads.lead WHERE external_id = $1"


async def show_all_done(redis: Redis) -> None:
    """Have the partitions look as their owners leave them: all that was there is done."""
    for stream in await lead_streams(redis):
        newest = await last_entry(redis, stream) or (0, 0)
        position = f"{newest[0]}-{newest[1]}"
        await show_position(redis, stream=stream, group=SYNCER, position=position)


async def wait_in_the_stream(redis: Redis, event: Event) -> None:
    await show_all_done(redis)
    await add_events(redis, [event])


async def be_held(redis: Redis, event: Event) -> None:
    """Have the event held, with its partition's position beyond it."""
    await add_events(redis, [event])
    await show_all_done(redis)


async def be_held_in(database: Database, event: Event) -> None:
    async with database.connection() as connection:
        await connection.execute(HOLD, event.key)


HOLD = """
    INSERT INTO leads.held_entry (stream, layout, number, entry_id, key, attempt, due_at, fields)
    VALUES ('stream:leads', 1, 0, '1-1', $1, 2, now(), '[]')
"""


@pytest.mark.parametrize("mode", list(ImportMode))
@pytest.mark.parametrize("how", ["in the stream", "held"])
async def test_a_row_comes_after_what_waits_under_its_key(
    how: str, mode: ImportMode, handlers: Handlers, redis: Redis, database: Database
) -> None:
    busy, free = uuid4(), uuid4()
    waiting = lead_upserted(busy, email="first@example.com", last_name="First")
    if how == "held":
        await be_held(redis, waiting)
        await be_held_in(database, waiting)
    else:
        await wait_in_the_stream(redis, waiting)
    rows_ = [f"Ada,Second,second@example.com,{busy}", f"Ada,Alone,alone@example.com,{free}"]
    content = csv_file(rows_, header=KEYED)
    event = requested(content, mode=mode)
    await keep(redis, event, content)
    handler = handler_of(redis, database, handlers=handlers.by_type)
    assert await deliver(handler, event) is None
    assert await rows(database, NAMES, free) == [{"last_name": "Alone"}]
    assert await rows(database, NAMES, busy) == []
    first, second = [one for one in await lead_entries(redis) if one.key == str(busy)]
    assert (first.event_id, second.event_id) == (str(waiting.id), str(row_event_id(event.id, 1)))


async def test_a_letter_put_back_leaves_what_a_row_has_set_since(
    handlers: Handlers, redis: Redis, database: Database
) -> None:
    key = uuid4()
    await created(handlers, external_id=key)
    await add_events(redis, [lead_upserted(key, email="ada@example.com", last_name="Letter")])
    [parked] = await lead_entries(redis)
    await show_all_done(redis)  # it failed, and its partition went on
    content = csv_file([f"Ada,Row,ada@example.com,{key}"], header=KEYED)
    event = requested(content, mode=ImportMode.UPSERT)
    await keep(redis, event, content)
    await deliver(handler_of(redis, database, handlers=handlers.by_type), event)
    assert await rows(database, NAMES, key) == [{"last_name": "Row"}]

    accepted = accepted_at(1, parked.id)
    letter = replace(decode(parked.fields), only_group=SYNCER, accepted=accepted)
    await handlers.one(letter)
    assert await rows(database, NAMES, key) == [{"last_name": "Row"}]


@pytest.mark.parametrize("state", ["never read", "divided anew", "far behind"])
async def test_rows_go_through_a_stream_of_which_it_is_not_known_what_waits(
    state: str, handlers: Handlers, redis: Redis, database: Database
) -> None:
    if state != "never read":
        await show_all_done(redis)
    if state == "divided anew":
        store = PartitionRepository(database)
        division = await store.divide(LEADS, partitions=3, number=2, is_open=False)
        await Divisions(redis).publish(division)
    if state == "far behind":
        entries = [lead_upserted(UUID(int=1), email="a@example.com")] * (MOST_WAITING + 1)
        await add_events(redis, entries)
    content = csv_file(["Ada,King,ada@example.com,London"])
    event = requested(content)
    await keep(redis, event, content)
    handler = handler_of(redis, database, handlers=handlers.by_type)
    with contextlib.suppress(ClosedError):
        assert await deliver(handler, event) is None
    assert await rows(database, LEADS_STORED) == []


@pytest.mark.parametrize("mode", list(ImportMode))
async def test_rows_of_one_key_take_effect_in_their_order(
    mode: ImportMode, handlers: Handlers, redis: Redis, database: Database
) -> None:
    await show_all_done(redis)
    key, names = uuid4(), ["First", "Second", "Third"]
    # The database would offer them in the order of their addresses.
    lines = [f"Ada,{name},{'zyx'[n]}@example.com,{key}" for n, name in enumerate(names)]
    content = csv_file(lines, header=KEYED)
    event = requested(content, mode=mode)
    await keep(redis, event, content)
    handler = handler_of(redis, database, handlers=handlers.by_type, part=timedelta(seconds=5))
    outcome = await deliver(handler, event)
    assert outcome is not None
    counts = orjson.loads(outcome.body)["progress"]
    is_upsert = mode is ImportMode.UPSERT
    assert (counts["created"], counts["updated" if is_upsert else "duplicate"]) == (1, 2)
    [lead] = await rows(database, NAMES, key)
    assert lead["last_name"] == ("Third" if is_upsert else "First")
    assert await lead_entries(redis) == []


class DiesOnce:
    """What follows the commit, which a process does not live to see at first."""

    def __init__(self) -> None:
        self.followed: list[UUID] = []
        self._has_died = False

    async def __call__(self, events: Sequence[Event], results: Sequence[WriteResult]) -> None:
        if not self._has_died:
            self._has_died = True
            raise UnavailableError("as if the process had died")
        self.followed += [event.id for event in events]
        assert {result.change for result in results} == {"created"}


async def test_rows_that_were_committed_and_not_followed_up_are_followed_up(
    redis: Redis, database: Database
) -> None:
    await show_all_done(redis)
    content = csv_file(f"Ada,King,{n}@example.com,London" for n in range(3))
    event, follow_up = requested(content), DiesOnce()
    await keep(redis, event, content)
    on_created: Any = LeadCreatedHandler(LeadCreationRepository(database), cast("Any", follow_up))
    handler = handler_of(
        redis, database, part=timedelta(seconds=5), handlers={LeadCreated.type: on_created}
    )
    with pytest.raises(UnavailableError):
        await deliver(handler, event)
    assert len(await rows(database, LEADS_STORED)) == 3
    outcome = await deliver(handler, event)
    assert outcome is not None
    assert orjson.loads(outcome.body)["progress"]["created"] == 3
    assert follow_up.followed == [row_event_id(event.id, number) for number in (1, 2, 3)]
    assert len(await rows(database, LEADS_STORED)) == 3


class Counts:
    """Applies events, and notes how many at a time, and in how many calls at the same time."""

    def __init__(self, handler: Handler, *, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self.batches: list[int] = []
        self.most = 0
        self._handler = handler
        self._meanwhile = meanwhile
        self._under_way = 0

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        self.batches.append(len(events))
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        await self._meanwhile()
        outcomes = await self._handler(events)
        self._under_way -= 1
        return outcomes


async def counted(
    number: int,
    handlers: Handlers,
    redis: Redis,
    database: Database,
    *,
    meanwhile: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0),
) -> Counts:
    """Import so many rows; returns how they were applied."""
    content = csv_file(f"Ada,King,{n}@example.com,London" for n in range(number))
    event = requested(content)
    counts = Counts(handlers.by_type[LeadCreated.type], meanwhile=meanwhile)
    await keep(redis, event, content)
    part, by_type = timedelta(seconds=20), {LeadCreated.type: counts}
    assert await deliver(handler_of(redis, database, part=part, handlers=by_type), event)
    assert sum(counts.batches) == number
    return counts


def all_lanes() -> Callable[[], Awaitable[object]]:
    """Return what holds the first calls up until there are as many as go side by side."""
    calls, together = itertools.count(1), asyncio.Event()

    async def wait() -> None:
        if next(calls) == LANES:
            together.set()
        async with asyncio.timeout(20):
            await together.wait()

    return wait


async def test_rows_alone_are_applied_side_by_side(
    handlers: Handlers, redis: Redis, database: Database
) -> None:
    await show_all_done(redis)
    number = LANES * WINDOW + 20
    counts = await counted(number, handlers, redis, database, meanwhile=all_lanes())
    assert (counts.batches, counts.most) == ([*[WINDOW] * LANES, 20], LANES)


@pytest.mark.parametrize("waiting", [1, 3])
async def test_while_clients_write_too_they_wait_for_few_rows(
    waiting: int, handlers: Handlers, redis: Redis, database: Database
) -> None:
    await show_all_done(redis)
    await add_events(redis, [lead_created() for _ in range(waiting)])
    counts = await counted(LANES * WINDOW, handlers, redis, database)
    assert counts.most == 1
    assert (counts.batches[0], max(counts.batches) < WINDOW) == (SHARED_BATCH, True)


async def test_rows_are_not_alone_where_others_have_just_been(
    handlers: Handlers, redis: Redis, database: Database
) -> None:
    """Clients' events come while the first windows are written, and are done with the next look."""
    await show_all_done(redis)
    wait, calls = all_lanes(), itertools.count()

    async def write() -> None:
        await wait()
        if next(calls) < LANES:
            await add_events(redis, [lead_created()])
            await show_all_done(redis)

    counts = await counted((LANES + 2) * WINDOW, handlers, redis, database, meanwhile=write)
    first, rest = counts.batches[:LANES], counts.batches[LANES:]
    assert (first, rest[0], max(rest) < WINDOW) == ([WINDOW] * LANES, SHARED_BATCH, True)


async def test_a_batch_that_cannot_be_applied_stops_the_import_and_not_the_others(
    handlers: Handlers, redis: Redis, database: Database
) -> None:
    """Who goes on with it counts what was written already."""
    await show_all_done(redis)
    number, calls = WINDOW + 20, itertools.count()

    async def fail_once() -> None:
        # Which of the two begins is chance.
        if counts.batches[-1] == WINDOW and next(calls) == 0:
            raise UnavailableError("PostgreSQL is away")

    content = csv_file(f"Ada,King,{n}@example.com,London" for n in range(number))
    event = requested(content)
    await keep(redis, event, content)
    counts = Counts(handlers.by_type[LeadCreated.type], meanwhile=fail_once)
    part, by_type = timedelta(seconds=20), {LeadCreated.type: counts}
    handler = handler_of(redis, database, part=part, handlers=by_type)
    with pytest.raises(UnavailableError):
        await deliver(handler, event)
    assert len(await rows(database, LEADS_STORED)) == 20
    assert await ImportJobs(redis).progress(event.id) is None
    outcome = await deliver(handler, event)
    assert outcome is not None
    assert orjson.loads(outcome.body)["progress"]["created"] == number
    assert len(await rows(database, LEADS_STORED)) == number


@pytest.mark.parametrize("shared", ["email", "externalId"])
async def test_rows_of_one_lead_do_not_go_side_by_side(
    shared: str, handlers: Handlers, redis: Redis, database: Database
) -> None:
    await show_all_done(redis)
    emails, keys = [f"{n}@example.com" for n in range(WINDOW + 1)], [uuid4() for _ in range(WINDOW)]
    if shared == "email":
        emails[-1] = emails[0].upper()
    keys.append(uuid4() if shared == "email" else keys[0])
    lines = (
        f"Ada,{n},{email},{key}" for n, (email, key) in enumerate(zip(emails, keys, strict=True))
    )
    content = csv_file(lines, header=KEYED)
    event, calls, overtaken = requested(content), itertools.count(), asyncio.Event()

    async def be_overtaken() -> None:
        if next(calls) > 0:
            overtaken.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await overtaken.wait()

    counts = Counts(handlers.by_type[LeadCreated.type], meanwhile=be_overtaken)
    await keep(redis, event, content)
    part, by_type = timedelta(seconds=20), {LeadCreated.type: counts}
    outcome = await deliver(handler_of(redis, database, part=part, handlers=by_type), event)
    assert outcome is not None
    progress = orjson.loads(outcome.body)["progress"]
    assert (progress["created"], progress["duplicate"], counts.most) == (WINDOW, 1, 1)
    lines_ = b"".join([chunk async for chunk in ImportJobs(redis).errors(event.id)])
    assert orjson.loads(lines_)["row"] == WINDOW + 1


async def test_a_row_takes_the_address_that_an_earlier_row_frees(
    handlers: Handlers, redis: Redis, database: Database
) -> None:
    """The first row changes the lead that has it; the last one, of the next window, takes it."""
    await show_all_done(redis)
    keys = [uuid4() for _ in range(WINDOW + 1)]
    await handlers.one(lead_upserted(external_id=keys[0], email="had@example.com"))
    emails = [f"{n}@example.com" for n in range(WINDOW)] + ["had@example.com"]
    lines = (f"Ada,King,{email},{key}" for email, key in zip(emails, keys, strict=True))
    content = csv_file(lines, header=KEYED)
    event = requested(content, mode=ImportMode.UPSERT)
    upsert, overtaken = handlers.by_type[LeadUpserted.type], asyncio.Event()

    async def be_overtaken(events: Sequence[Event]) -> Sequence[Outcome]:
        if len(events) > 1:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await overtaken.wait()
        outcomes = await upsert(events)
        overtaken.set()
        return outcomes

    await keep(redis, event, content)
    part, by_type = timedelta(seconds=20), {LeadUpserted.type: be_overtaken}
    outcome = await deliver(handler_of(redis, database, part=part, handlers=by_type), event)
    assert outcome is not None
    progress = orjson.loads(outcome.body)["progress"]
    assert (progress["created"], progress["updated"], progress["duplicate"]) == (WINDOW, 1, 0)


async def test_a_row_that_was_parked_is_left_alone_however_far_redis_was_set_back(
    handlers: Handlers, redis: Redis, database: Database
) -> None:
    await show_all_done(redis)
    number = (LANES + 1) * WINDOW
    content = csv_file(f"Ada,King,{n}@example.com,London" for n in range(number))
    event = requested(content)
    parked = row_event_id(event.id, number)
    part = timedelta(seconds=20)
    handler = handler_of(redis, database, handlers=handlers.by_type, part=part)
    await keep(redis, event, content)
    await deliver(handler, event)
    async with database.connection() as connection:
        await connection.execute(UNDO, [event.id, parked], row_lead_id(parked))
        await connection.execute(PARK, str(parked))
    await keep(redis, event, content)
    outcome = await deliver(handler, event)
    assert outcome is not None
    progress = orjson.loads(outcome.body)["progress"]
    assert (progress["created"], progress["refused"]) == (number - 1, 1)
    assert len(await rows(database, LEADS_STORED)) == number - 1


UNDO = """
    WITH event AS (DELETE FROM leads.event WHERE id = ANY($1::uuid[]))
    DELETE FROM leads.lead WHERE id = $2
"""
PARK = """
    INSERT INTO leads.dead_letter (
        consumer_group, event_id, stream, entry_id, type, reason, error, attempts, fields
    )
    VALUES ('syncer', $1, 'stream:leads', '1-1', 'lead-created', 'defect', '', 1, '{}')
"""
