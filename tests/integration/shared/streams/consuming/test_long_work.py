"""Work that takes more than one delivery, and work that waits for other streams' events."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.domain.errors import TransientError, UnfinishedError
from shared.events import catalog
from shared.events.data import SummaryRequested, SyncRequested
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.redis_connections import open_redis
from shared.settings import ConsumerSettings, StreamsSettings
from shared.streams.consuming.group import Group
from shared.streams.consuming.subscription import Subscription
from shared.streams.publisher import add_events
from shared.streams.workers import open_workers
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import KeepsLetters, Workers

SOON = timedelta(milliseconds=100)
DONE = Outcome(OutcomeStatus.CREATED)


async def test_unfinished_work_returns_as_a_first_attempt_until_it_is_done(
    workers: Workers,
) -> None:
    attempts: list[int] = []

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        attempts.append(events[0].attempt)
        if len(attempts) == 2:
            raise TransientError("once")
        if len(attempts) < 6:
            raise UnfinishedError("more to do")
        return [DONE]

    await add_events(workers.redis, [summary_requested()])
    async with workers.running(handler, max_attempts=2):

        async def is_done() -> bool:
            return len(attempts) == 6 and await workers.all_done()

        await eventually(is_done)
    assert attempts == [1, 1, 2, 1, 1, 1]
    assert workers.letters.letters == []


async def never(_event_id: UUID) -> bool:
    return False


async def test_what_waits_for_others_does_not_keep_them_from_being_alone(
    redis: Redis, streams_settings: StreamsSettings
) -> None:
    """A run of the sync waits for an event, which gets its last chance, alone."""
    run = Event(source="x", subject="sync", data=SyncRequested(requested_by="x"))
    await add_events(redis, [summary_requested()])
    async with open_redis(streams_settings, block=SOON) as reader:
        for name in ("dead", "dead too"):
            dead = Group(
                redis,
                reader,
                stream=catalog.SUMMARIES,
                group=catalog.SUMMARIZER,
                consumer=name,
            )
            await dead.ensure()
            if not await dead.read(count=1, block=SOON):
                for one in await dead.pending(idle=timedelta(0), count=1):
                    await dead.claim(one.entry_id, idle=timedelta(0))
    applied, is_waiting = asyncio.Event(), asyncio.Event()

    async def on_summary(events: Sequence[Event]) -> list[Outcome]:
        applied.set()
        return [DONE for _ in events]

    async def on_sync(_events: Sequence[Event]) -> list[Outcome]:
        is_waiting.set()
        await applied.wait()
        return [Outcome(OutcomeStatus.SYNCED)]

    stop = asyncio.Event()
    opening = open_workers(
        redis,
        [
            Subscription(
                stream=catalog.SUMMARIES,
                group=catalog.SUMMARIZER,
                handlers={SummaryRequested.type: on_summary},
                is_settled=never,
            ),
            Subscription(
                stream=catalog.SYNC,
                group=catalog.SYNCER,
                handlers={SyncRequested.type: on_sync},
                is_settled=never,
                waits_for_others=True,
            ),
        ],
        streams=streams_settings,
        dead_letters=KeepsLetters(),
        settings=ConsumerSettings(stream_lease=SOON * 10, stream_block=SOON),
        name="syncer:test:1",
        stop=stop,
    )
    await add_events(redis, [run])
    async with opening as workers, asyncio.TaskGroup() as tasks:
        for worker in workers:
            tasks.create_task(worker.run(), name=f"worker {worker.stream}")
        try:
            async with asyncio.timeout(5):
                await is_waiting.wait()
                await applied.wait()
        finally:
            applied.set()
            stop.set()
