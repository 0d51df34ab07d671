"""Taking over goes on after Redis was away in the middle of it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.events import catalog
from shared.events.envelope import Event
from shared.events.lead_events import LeadCreated
from shared.events.outcome import Outcome, OutcomeStatus
from shared.settings import ConsumerSettings, StreamsSettings
from shared.streams.connection import open_redis
from shared.streams.consuming.group import Group
from shared.streams.consuming.subscription import Subscription
from shared.streams.consuming.worker import Parts, open_workers
from shared.streams.entries import Entry
from shared.streams.publisher import add_events
from tests.support.builders import lead_created
from tests.support.eventually import eventually
from tests.support.workers import KeepsLetters, Workers

SOON = timedelta(milliseconds=100)


class AwayForAWhile(Group):
    """A group whose Redis is away for the first claims."""

    attempts = 0

    async def claim(self, entry_id: str, *, idle: timedelta) -> Entry | None:
        self.attempts += 1
        if self.attempts <= 3:
            raise UnavailableError("Redis is away")
        return await super().claim(entry_id, idle=idle)


async def test_an_outage_while_claiming_passes(
    workers: Workers, redis: Redis, streams_settings: StreamsSettings
) -> None:
    sent = [lead_created(), lead_created()]
    await add_events(redis, sent)
    async with open_redis(streams_settings, block=SOON) as reader:
        dead = Group(redis, reader, stream=catalog.LEADS, group=catalog.SYNCER, consumer="dead")
        await dead.ensure()
        assert len(await dead.read(count=10, block=SOON)) == len(sent)
    handled: list[Event] = []

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        handled.extend(events)
        return [Outcome(OutcomeStatus.CREATED) for _ in events]

    async def never(_event_id: UUID) -> bool:
        return False

    stop = asyncio.Event()
    subscription = Subscription(
        stream=catalog.LEADS,
        group=catalog.SYNCER,
        handlers={LeadCreated.type: handler},
        is_settled=never,
    )
    opening = open_workers(
        redis,
        [subscription],
        streams=streams_settings,
        dead_letters=KeepsLetters(),
        settings=ConsumerSettings(stream_lease=SOON * 3, stream_block=SOON),
        name="syncer:test:1",
        stop=stop,
        parts=Parts(group=AwayForAWhile),
    )
    async with opening as [worker], asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(), name="worker")
        await eventually(workers.all_done)
        stop.set()
    assert sorted(event.id for event in handled) == sorted(event.id for event in sent)
