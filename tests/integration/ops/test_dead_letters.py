"""Dead letters are listed, retried and discarded, one or many, and never lost by accident."""

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from shared.administration.dead_letters import DeadLetters
from shared.events import catalog
from shared.events.dead_letter import DeadLetter
from shared.events.envelope import Event
from shared.storage.dead_letters import (
    DeadLetterRepository,
    KeptLetter,
    LetterSelection,
)
from shared.storage.inbox import EventStore
from shared.storage.pool import Database
from shared.streams.codec import decode, encode
from tests.integration.ops.conftest import Ops, StartSyncer
from tests.support.builders import lead_created
from tests.support.eventually import eventually
from tests.support.partitions import lead_entries, lead_streams


def parked(event: Event, *, reason: str = "attempts", group: str = catalog.SYNCER) -> DeadLetter:
    return DeadLetter(
        group=group,
        event_id=str(event.id),
        stream=catalog.LEADS,
        entry_id="1-1",
        type=event.type,
        reason=reason,
        error="TransientError: not today",
        attempts=5,
        fields={str(name): str(value) for name, value in encode(event).items()},
    )


@pytest.fixture
def letters(database: Database) -> DeadLetterRepository:
    return DeadLetterRepository(database)


async def keep(letters: DeadLetterRepository, events: Sequence[Event], *, reason: str) -> None:
    for event in events:
        await letters.add_letter(parked(event, reason=reason))


async def test_a_retried_event_is_applied_and_its_letter_gone(
    ops: Ops, syncer: StartSyncer, letters: DeadLetterRepository, database: Database
) -> None:
    event = lead_created(reply_to="reply:gone", attempt=5)
    await letters.add_letter(parked(event))
    [kept] = (await ops("dead-letters", "list", "--json")).json
    assert (kept["letter"]["event_id"], kept["letter"]["attempts"]) == (str(event.id), 5)
    async with syncer():
        ended = await ops("dead-letters", "retry", str(kept["id"]), "--yes", "--json")
        assert ended.json == {"retried": 1, "hopeless": 0}
        store = EventStore(database)
        await eventually(lambda: store.is_applied(event.id))
    assert (await ops("dead-letters", "list", "--json")).json == []


async def test_a_retry_is_a_first_attempt_for_its_group_alone_and_answers_nobody(
    ops: Ops, letters: DeadLetterRepository, redis: Redis
) -> None:
    event = lead_created(reply_to="reply:gone", attempt=5, replay_id="earlier")
    await letters.add_letter(parked(event))
    await ops("dead-letters", "retry", "--reason", "attempts", "--yes")
    [entry] = await lead_entries(redis)
    again = decode(entry.fields)
    assert (again.id, again.data, again.time) == (event.id, event.data, event.time)
    assert (again.attempt, again.only_group) == (1, "syncer")
    assert (again.reply_to, again.replay_id) == (None, None)


async def test_many_are_handled_by_reason(
    ops: Ops, letters: DeadLetterRepository, redis: Redis
) -> None:
    await keep(letters, [lead_created() for _ in range(5)], reason="attempts")
    await keep(letters, [lead_created() for _ in range(3)], reason="crash")
    counts = (await ops("dead-letters", "list", "--summary", "--json")).json
    assert {count["reason"]: count["count"] for count in counts} == {"attempts": 5, "crash": 3}
    retried = await ops("dead-letters", "retry", "--reason", "attempts", "--yes", "--json")
    assert retried.json["retried"] == 5
    assert len(await lead_entries(redis)) == 5
    discarded = await ops("dead-letters", "discard", "--reason", "crash", "--yes", "--json")
    assert discarded.json == {"discarded": 3}
    assert (await ops("dead-letters", "list", "--json")).json == []


async def test_an_event_parked_again_during_its_retry_keeps_its_letter(
    letters: DeadLetterRepository,
) -> None:
    event = lead_created()
    await letters.add_letter(parked(event))
    read = await letters.page(LetterSelection(), limit=10)
    await letters.add_letter(parked(event, reason="crash"))
    assert await letters.remove_letters(read) == 0
    [kept] = await letters.page(LetterSelection(), limit=10)
    assert kept.letter.reason == "crash"


async def test_a_letter_stays_when_its_event_cannot_be_added(
    letters: DeadLetterRepository, database: Database, redis: Redis
) -> None:
    await letters.add_letter(parked(lead_created()))
    for stream in await lead_streams(redis):
        await redis.set(stream, b"not a stream")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await DeadLetters(redis, database).retry(LetterSelection())
    assert len(await letters.page(LetterSelection(), limit=10)) == 1


async def test_what_was_no_event_is_not_retried(
    ops: Ops, letters: DeadLetterRepository, redis: Redis
) -> None:
    await letters.add_letter(parked(lead_created(), reason="undecodable"))
    ended = await ops("dead-letters", "retry", "--reason", "undecodable", "--yes", "--json")
    assert ended.json == {"retried": 0, "hopeless": 1}
    assert not await lead_entries(redis)


async def test_bulk_work_wants_conditions_and_a_yes_and_is_recorded(
    ops: Ops, letters: DeadLetterRepository
) -> None:
    await keep(letters, [lead_created() for _ in range(2)], reason="attempts")
    assert (await ops("dead-letters", "discard", "--yes")).code == 2
    refused = await ops("dead-letters", "discard", "--reason", "attempts", stdin=b"n\n")
    assert "Discard 2 dead letters for good?" in refused.stderr
    assert refused.code == 1
    assert len(await letters.page(LetterSelection(), limit=10)) == 2
    agreed = await ops("dead-letters", "discard", "--reason", "attempts", stdin=b"y\n")
    assert agreed.code == 0
    [action] = (await ops("log", "--json")).json
    assert (action["action"], action["affected"]) == ("dead-letters discard", 2)
    assert action["detail"] == {"reason": "attempts"}
    assert action["actor"]


async def test_a_letter_is_shown_with_its_whole_event(
    ops: Ops, letters: DeadLetterRepository
) -> None:
    event = lead_created()
    await letters.add_letter(parked(event))
    kept = await _only(letters)
    shown = await ops("dead-letters", "show", str(kept.id))
    assert event.subject in shown.stdout
    assert "TransientError: not today" in shown.stdout
    assert (await ops("dead-letters", "show", "999")).code == 1


async def _only(letters: DeadLetterRepository) -> KeptLetter:
    [kept] = await letters.page(LetterSelection(), limit=10)
    return kept
