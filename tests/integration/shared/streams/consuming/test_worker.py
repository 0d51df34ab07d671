"""What the streams runtime does with events, in the order in which one would ask."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest
from redis.typing import EncodableT, FieldT

from shared.background import background
from shared.domain.errors import PermanentError, TransientError, UnavailableError
from shared.events import catalog
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.consuming.subscription import Handler
from shared.streams.publisher import add_events
from shared.streams.replies import TRIM_EVERY, LateReplies, Replies, Reply
from shared.streams.workers import AnyWorker
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import DONE, Recorder, Workers


async def test_events_arrive_whole_in_order_and_are_acknowledged(workers: Workers) -> None:
    sent = [summary_requested(correlation_id="request-1") for _ in range(25)]
    await add_events(workers.redis, sent)
    handler = Recorder()
    async with workers.running(handler, batch=10):
        await eventually(workers.all_done)
    assert handler.events == sent
    assert max(map(len, handler.batches)) == 10


async def test_the_reply_reaches_the_asker(
    workers: Workers, streams_settings: StreamsSettings
) -> None:
    block = timedelta(milliseconds=100)
    async with open_redis(streams_settings, block=block) as reader:
        replies = Replies(reader, instance="api:test:1", block=block)
        event = summary_requested(reply_to=replies.address)
        async with background(replies.run(), name="replies"), workers.running(Recorder()):
            with replies.expect(event.id) as reply:
                await add_events(workers.redis, [event])
                assert await asyncio.wait_for(reply, 5) == DONE


@pytest.mark.parametrize("replies_sent", [1, 2, 60])
async def test_replies_in_a_row_are_trimmed_together_and_none_stays(
    workers: Workers, streams_settings: StreamsSettings, replies_sent: int
) -> None:
    block = timedelta(seconds=20)
    async with open_redis(streams_settings, block=block) as reader:
        replies = Replies(reader, instance="api:test:1", block=block)
        events = [summary_requested(reply_to=replies.address) for _ in range(replies_sent)]
        started, before = time.monotonic(), await _calls(workers, "xtrim")

        async def stream_is_empty() -> bool:
            return not await workers.redis.xlen(replies.address)

        async with background(replies.run(), name="replies"):
            for event in events:
                with replies.expect(event.id) as reply:
                    await LateReplies(workers.redis).send([Reply(replies.address, event.id, DONE)])
                    assert await asyncio.wait_for(reply, 5) == DONE
            await eventually(stream_is_empty)
        # The first read's, the last one's, and one for each span between.
        most = 2 + (time.monotonic() - started) / TRIM_EVERY.total_seconds()
    assert 1 <= await _calls(workers, "xtrim") - before <= most


async def test_a_reply_that_cannot_be_sent_is_no_reason_to_handle_an_event_again(
    workers: Workers,
) -> None:
    await workers.redis.set("a text", "takes no entries")
    handler = Recorder()
    await add_events(workers.redis, [summary_requested(reply_to="a text")])
    async with workers.running(handler):
        await eventually(workers.all_done)
    assert len(handler.events) == 1


async def test_a_replayed_event_gets_no_reply(workers: Workers) -> None:
    event = summary_requested(reply_to="reply:api:test:1", replay_id="replay-1")
    await add_events(workers.redis, [event])
    async with workers.running(Recorder()):
        await eventually(workers.all_done)
    assert not await workers.redis.exists("reply:api:test:1")


async def test_an_entry_for_another_group_is_passed_over(workers: Workers) -> None:
    await add_events(workers.redis, [summary_requested(only_group="somebody-else")])
    handler = Recorder()
    async with workers.running(handler):
        await eventually(workers.all_done)
    assert handler.events == []


@pytest.mark.parametrize("reply_to", [None, "reply:api:test:1", "a text"])
async def test_what_ends_together_is_settled_together(
    workers: Workers, reply_to: str | None
) -> None:
    await workers.redis.set("a text", "takes no entries")
    begun = 0
    all_begun = asyncio.Event()

    async def waits_for_all(events: Sequence[Event]) -> list[Outcome]:
        nonlocal begun
        begun += 1
        if begun == 50:
            all_begun.set()
        await all_begun.wait()
        return [DONE for _ in events]

    await add_events(workers.redis, [summary_requested(reply_to=reply_to) for _ in range(50)])
    before = await _calls(workers, "xack")
    async with workers.running(waits_for_all, batch=1, concurrency=50):
        await eventually(workers.all_done)
    assert await _calls(workers, "xack") - before <= 3
    if reply_to == "reply:api:test:1":
        assert await workers.redis.xlen(reply_to) == 50


async def _calls(workers: Workers, command: str) -> int:
    stats = await workers.redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_a_transient_failure_is_retried_as_the_next_attempt(workers: Workers) -> None:
    attempts: list[int] = []

    async def fails_once(events: Sequence[Event]) -> list[Outcome]:
        attempts.extend(event.attempt for event in events)
        if events[0].attempt == 1:
            raise TransientError("not yet")
        return [DONE for _ in events]

    await add_events(workers.redis, [summary_requested()])
    async with workers.running(fails_once):
        await eventually(lambda: _reached(attempts, [1, 2]))
        await eventually(workers.all_done)
    assert workers.letters.letters == []


async def test_a_permanent_failure_is_parked_and_its_batch_mates_are_not(workers: Workers) -> None:
    poison = summary_requested()
    sent = [summary_requested(), poison, summary_requested()]
    applied: list[Event] = []

    async def refuses(events: Sequence[Event]) -> list[Outcome]:
        if poison in events:
            raise PermanentError("never", code="unfit")
        applied.extend(events)
        return [DONE for _ in events]

    await add_events(workers.redis, sent)
    async with workers.running(refuses):
        await eventually(workers.all_done)
    assert applied == [sent[0], sent[2]]
    [letter] = workers.letters.letters
    assert (letter.event_id, letter.reason, letter.group) == (str(poison.id), "unfit", "summarizer")
    assert letter.fields["data"] == poison.data.model_dump_json()


async def test_attempts_are_bounded(workers: Workers) -> None:
    async def breaks(_events: Sequence[Event]) -> list[Outcome]:
        raise ZeroDivisionError

    await add_events(workers.redis, [summary_requested()])
    async with workers.running(breaks, max_attempts=2):
        await eventually(lambda: _any(workers.letters.letters))
        await eventually(workers.all_done)
    assert [(letter.reason, letter.attempts) for letter in workers.letters.letters] == [
        ("error", 2)
    ]


async def test_an_outage_is_waited_out_and_uses_up_no_attempt(workers: Workers) -> None:
    calls = 0

    async def down_for_a_while(events: Sequence[Event]) -> list[Outcome]:
        nonlocal calls
        calls += 1
        if calls <= 6:
            raise UnavailableError("PostgreSQL is away")
        assert [event.attempt for event in events] == [1]
        return [DONE for _ in events]

    await add_events(workers.redis, [summary_requested()])
    async with workers.running(down_for_a_while, max_attempts=2) as worker:
        await eventually(lambda: _trouble(worker))
        await eventually(workers.all_done)
        await worker.check()
    assert workers.letters.letters == []


async def test_what_is_no_event_is_parked(workers: Workers) -> None:
    await workers.redis.xadd(catalog.SUMMARIES, {"hello": b"\xff\x00"})
    await workers.redis.xadd(catalog.SUMMARIES, _fields(type="summary-teleported"))
    await workers.redis.xadd(
        catalog.SUMMARIES, _fields(dataschema="urn:leads:summary-requested:99")
    )
    await workers.redis.xadd(catalog.SUMMARIES, _fields(data="{}"))
    async with workers.running(Recorder()):
        await eventually(workers.all_done)
    assert [letter.reason for letter in workers.letters.letters] == [
        "undecodable",
        "unknown-type",
        "unknown-version",
        "invalid-data",
    ]


async def test_long_work_keeps_its_entry(workers: Workers) -> None:
    runs: list[str] = []

    def slow(name: str) -> Handler:
        async def handler(events: Sequence[Event]) -> list[Outcome]:
            runs.append(name)
            await asyncio.sleep(1.5)
            return [DONE for _ in events]

        return handler

    await add_events(workers.redis, [summary_requested()])
    lease = timedelta(milliseconds=300)
    async with (
        workers.running(slow("first"), name="summarizer:test:1", lease=lease),
        workers.running(slow("second"), name="summarizer:test:2", lease=lease),
    ):
        await eventually(workers.all_done)
    assert len(runs) == 1


async def test_the_group_is_made_anew_when_the_stream_is_lost(workers: Workers) -> None:
    handler = Recorder()
    async with workers.running(handler):
        await add_events(workers.redis, [summary_requested()])
        await eventually(lambda: _any(handler.events))
        await workers.redis.flushall()
        again = summary_requested()
        await add_events(workers.redis, [again])
        await eventually(lambda: _has(handler.events, again))


async def test_stopping_finishes_what_is_in_flight_and_leaves_the_group(workers: Workers) -> None:
    started = asyncio.Event()

    async def slow(events: Sequence[Event]) -> list[Outcome]:
        started.set()
        await asyncio.sleep(0.3)
        return [DONE for _ in events]

    await add_events(workers.redis, [summary_requested()])
    async with workers.running(slow):
        await asyncio.wait_for(started.wait(), 5)
    assert await workers.pending() == 0
    assert await workers.redis.xinfo_consumers(catalog.SUMMARIES, catalog.SUMMARIZER) == []


async def test_stopping_hands_back_what_cannot_be_finished(workers: Workers) -> None:
    started = asyncio.Event()

    async def stuck(_events: Sequence[Event]) -> list[Outcome]:
        started.set()
        await asyncio.sleep(60)
        return []

    await add_events(workers.redis, [summary_requested()])
    long = timedelta(minutes=10)
    async with workers.running(stuck, name="summarizer:test:1", lease=long):
        await asyncio.wait_for(started.wait(), 5)
    assert await workers.pending() == 1
    # Claimable at once, ten minutes before its lease would have been over.
    [pending] = await workers.redis.xpending_range(
        catalog.SUMMARIES, catalog.SUMMARIZER, "-", "+", 1, idle=600_000
    )
    # Nobody died over it, so the delivery does not count as a crash.
    assert pending["times_delivered"] == 0


def _fields(**changes: str) -> dict[FieldT, EncodableT]:
    fields: dict[FieldT, EncodableT] = {
        "id": "0190b2a4-0000-7000-8000-000000000000",
        "source": "tests",
        "type": "summary-requested",
        "subject": "lead",
        "time": "2026-01-01T00:00:00+00:00",
        "dataschema": "urn:leads:summary-requested:1",
        "data": "{}",
    }
    return fields | dict(changes)


async def _reached(seen: list[int], wanted: list[int]) -> bool:
    return seen == wanted


async def _trouble(worker: AnyWorker) -> bool:
    try:
        await worker.check()
    except UnavailableError as error:
        return "PostgreSQL is away" in str(error)
    return False


async def _any(things: Sequence[object]) -> bool:
    return bool(things)


async def _has(events: Sequence[Event], event: Event) -> bool:
    return event in events
