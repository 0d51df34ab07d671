"""The last resort keeps anything: no content of an entry can stop a consumer."""

from collections.abc import Mapping

import pytest
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT

from shared.events import catalog
from shared.events.dead_letter import DeadLetter
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.dead_letters import DeadLetterRepository, LetterSelection
from shared.storage.pool import Database
from shared.streams.codec import encode
from tests.conftest import LEADS_DIVISION
from tests.support.builders import lead_created
from tests.support.eventually import eventually
from tests.support.syncer import running_syncer

Fields = Mapping[FieldT, EncodableT]


def event(**changes: str) -> Fields:
    """Return the fields of an event of its own but for these."""
    return encode(lead_created()) | changes


PARKED: dict[str, Fields] = {
    "an id of 6,000 characters": {"id": "x" * 6_000},
    "an id that does not compress": {"id": "".join(chr(33 + i * i % 90) for i in range(90_000))},
    "an attempt beyond every integer": event(attempt="99999999999"),
    "an attempt too long to be read": event(attempt="9" * 5_000),
    "an attempt in other digits": event(attempt="\u0663"),
    "a number in a replay too long to be read": {"replayid": "r", "replaynumber": "9" * 5_000},
    "a number in a replay beyond every bit": {"replayid": "r", "replaynumber": "4294967296"},
    "NUL in names and values": {"id": "a\0b", "ty\0pe": "x\0", "type": "\0"},
    "bytes that are no text": {b"id": b"\xff\xfe", b"\x80": b"\xc3\x28", b"type": b"\xa0"},
    "surrogates as bytes": {b"id": b"\xed\xa0\x80", b"data": b"\xed\xbf\xbf"},
    "surrogates in JSON": event(data=r'{"lead_id":"\ud800","lead":{"email":"\udfff"}}'),
    "a type of a megabyte": event(type="t" * 1_000_000),
    "a key of a megabyte": {"partitionkey": "k" * 1_000_000, "id": "1"},
    "a field beyond what is kept": {"data": "d" * 20_000_000},
    "a name beyond what is kept": {"n" * 20_000_000: "v"},
    "more fields than a script can handle": event(**{f"f{n}": "v" for n in range(20_000)}),
    "nothing that an event has": {"": ""},
}


@pytest.mark.parametrize("stream", [LEADS_DIVISION.last.names[0], catalog.IMPORTS])
async def test_whatever_an_entry_holds_it_is_parked_and_the_next_one_handled(
    stream: str,
    redis: Redis,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    database: Database,
) -> None:
    ids = {name: await redis.xadd(stream, dict(fields)) for name, fields in PARKED.items()}
    letters = DeadLetterRepository(database)

    async def are_parked() -> bool:
        kept = await letters.page(LetterSelection(), limit=100)
        parked = {one.letter.entry_id.encode() for one in kept}
        assert [name for name, entry_id in ids.items() if entry_id not in parked] == []
        return True

    async with running_syncer(postgres_settings, streams_settings, cache_settings):
        await eventually(are_parked)


@pytest.mark.parametrize("fields", [{"": ""}, {"id": "1"}, {"id": "", "type": "lead-created"}])
async def test_each_entry_that_is_no_event_has_a_letter_of_its_own(
    fields: dict[FieldT, EncodableT],
    redis: Redis,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    database: Database,
) -> None:
    streams = [*LEADS_DIVISION.last.names, catalog.IMPORTS]
    for stream in streams:  # in all of them under the same ids
        await redis.xadd(stream, fields, id="1-1")
        await redis.xadd(stream, fields, id="1-2")
    letters = DeadLetterRepository(database)

    async def are_kept() -> bool:
        return len(await letters.page(LetterSelection(), limit=100)) == 2 * len(streams)

    async with running_syncer(postgres_settings, streams_settings, cache_settings):
        await eventually(are_kept)


def letter(fields: Mapping[str, str], **changes: object) -> DeadLetter:
    given = {
        "group": "syncer",
        "event_id": "1",
        "stream": "stream:leads",
        "entry_id": "1-0",
        "type": "",
        "reason": "error",
        "error": "no",
        "attempts": 1,
        "fields": fields,
    }
    return DeadLetter(**(given | changes))  # type: ignore[arg-type]  # the values are of many types


@pytest.mark.parametrize(
    "odd",
    [
        letter({"a": "b"}, error="\ud800 and \0"),
        letter({"\ud800": "\udfff"}),
        letter({"a": "b"}, attempts=2**63),
        letter({"a": "b"}, event_id="\ud800" * 5_000),
    ],
)
async def test_no_letter_is_refused(odd: DeadLetter, database: Database) -> None:
    letters = DeadLetterRepository(database)
    await letters.add_letter(odd)
    await letters.add_letter(odd)
    [kept] = await letters.page(LetterSelection(), limit=2)
    assert await letters.page(LetterSelection(event_id=kept.letter.event_id), limit=2) == [kept]


async def test_what_is_put_back_is_what_was_parked(database: Database) -> None:
    fields = {"id": "1", "data": "é" * 100_000}
    letters = DeadLetterRepository(database)
    await letters.add_letter(letter(fields))
    [kept] = await letters.page(LetterSelection(), limit=1)
    assert kept.letter.fields == fields
