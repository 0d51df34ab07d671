"""Entries whose consumers died: taken over, and parked when they are what kills."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.events import catalog
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.codec import Entry
from shared.streams.consuming.group import Group
from shared.streams.consuming.worker import Parts
from shared.streams.publisher import add_events
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import DONE, Recorder, Workers


async def test_a_dead_consumers_entries_are_taken_over_one_by_one(
    workers: Workers, streams_settings: StreamsSettings
) -> None:
    sent = [summary_requested() for _ in range(5)]
    await _read_and_die(workers, streams_settings, sent)
    handler = Recorder()
    async with workers.running(handler, batch=10):
        await eventually(workers.all_done)
    assert sorted(event.id for event in handler.events) == sorted(event.id for event in sent)
    assert {len(batch) for batch in handler.batches} == {1}


async def test_an_entry_that_kills_its_consumers_is_parked(
    workers: Workers, streams_settings: StreamsSettings
) -> None:
    [killer] = sent = [summary_requested()]
    await _read_and_die(workers, streams_settings, sent, deaths=3)
    handler = Recorder()
    async with workers.running(handler):
        await eventually(workers.all_done)
    assert handler.events == []
    assert [(letter.event_id, letter.reason) for letter in workers.letters.letters] == [
        (str(killer.id), "crash")
    ]


async def test_the_last_attempt_before_parking_is_made_alone(
    workers: Workers, streams_settings: StreamsSettings
) -> None:
    [suspect] = sent = [summary_requested()]
    await _read_and_die(workers, streams_settings, sent, deaths=2)
    at_work: set[Event] = set()
    company: dict[Event, set[Event]] = {}

    async def slow(events: Sequence[Event]) -> list[Outcome]:
        [event] = events
        at_work.add(event)
        for one in at_work:
            company.setdefault(one, set()).update(at_work - {one})
        await asyncio.sleep(0.05)
        at_work.remove(event)
        return [DONE]

    others = [summary_requested() for _ in range(60)]
    async with workers.running(slow, batch=1, concurrency=4):
        await add_events(workers.redis, others)
        await eventually(workers.all_done)
    assert company[suspect] == set()
    assert all(company[event] for event in others[:4])
    assert workers.letters.letters == []


async def test_an_applied_entry_whose_consumers_died_is_only_acknowledged(
    workers: Workers, streams_settings: StreamsSettings
) -> None:
    await _read_and_die(workers, streams_settings, [summary_requested()], deaths=3)

    async def settled(_event_id: object) -> bool:
        return True

    async with workers.running(Recorder(), settled=settled):
        await eventually(workers.all_done)
    assert workers.letters.letters == []


class AwayForAWhile(Group):
    """A group whose Redis is away for the first claims."""

    attempts = 0

    async def claim(self, entry_id: str, *, idle: timedelta) -> Entry | None:
        self.attempts += 1
        if self.attempts <= 3:
            raise UnavailableError("Redis is away")
        return await super().claim(entry_id, idle=idle)


async def test_an_outage_while_claiming_passes(
    workers: Workers, streams_settings: StreamsSettings
) -> None:
    sent = [summary_requested(), summary_requested()]
    await _read_and_die(workers, streams_settings, sent)
    handler = Recorder()
    async with workers.running(handler, parts=Parts(group=AwayForAWhile)):
        await eventually(workers.all_done)
    assert sorted(event.id for event in handler.events) == sorted(event.id for event in sent)


async def _read_and_die(
    workers: Workers, streams: StreamsSettings, events: list[Event], *, deaths: int = 1
) -> None:
    """Deliver events to consumers that never acknowledge them."""
    await add_events(workers.redis, events)
    async with open_redis(streams, block=timedelta(seconds=1)) as reader:
        group = _group(workers.redis, reader, "summarizer:dead:1")
        await group.ensure()
        entries = await group.read(count=100, block=timedelta(seconds=1))
        for number in range(2, deaths + 1):
            another = _group(workers.redis, reader, f"summarizer:dead:{number}")
            for entry in entries:
                assert await another.claim(entry.id, idle=timedelta(0))


def _group(redis: Redis, reader: Redis, consumer: str) -> Group:
    return Group(
        redis, reader, stream=catalog.SUMMARIES, group=catalog.SUMMARIZER, consumer=consumer
    )
