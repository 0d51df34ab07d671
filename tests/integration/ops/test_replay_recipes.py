"""What replays are for, besides repair: filling in new columns, and asking models again."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

from redis.asyncio import Redis

from shared.events.catalog import SUMMARIES, SUMMARIZER
from shared.events.data import LeadCreated, SummaryRequested
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.settings import ConsumerSettings, PostgresSettings, StreamsSettings
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.pool import Database
from shared.streams.consuming.subscription import Subscription
from shared.streams.publisher import add_events
from shared.streams.workers import open_workers
from tests.integration.ops.conftest import Apply, Ops, StartSyncer, rows
from tests.support.eventually import eventually
from tests.support.partitions import lead_streams
from tests.support.summaries import Says
from tests.support.summarizer import running_summarizer, summarizer_settings

BACKFILL = "email-domains"


class FillsEmailDomains:
    """A handler made for one occasion: fills a new column from the events of old."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, events: Sequence[Event]) -> list[Outcome]:
        created = [cast("LeadCreated", event.data) for event in events]
        domains = [one.lead.email.rpartition("@")[2] for one in created]
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE leads.lead SET email_domain = domain FROM "
                "unnest($1::uuid[], $2::text[]) AS filled (id, domain) "
                "WHERE lead.id = filled.id",
                [one.lead_id for one in created],
                domains,
            )
        return [Outcome(OutcomeStatus.CREATED) for _ in events]


async def test_a_new_column_is_filled_from_stored_events_in_a_group_of_its_own(
    ops: Ops,
    syncer: StartSyncer,
    create: Apply,
    database: Database,
    redis: Redis,
    streams_settings: StreamsSettings,
) -> None:
    async with syncer():
        await create(30)
        before = await rows(database, "SELECT * FROM leads.lead ORDER BY id")
        async with database.connection() as connection:
            await connection.execute("ALTER TABLE leads.lead ADD email_domain text")
        partitions = await lead_streams(redis)
        for partition in partitions:
            await redis.xgroup_create(partition, BACKFILL, id="$", mkstream=True)
        subscriptions = [
            Subscription(
                stream=partition,
                group=BACKFILL,
                handlers={LeadCreated.type: FillsEmailDomains(database)},
                is_settled=lambda _event_id: _no(),
                batch=10,
            )
            for partition in partitions
        ]
        stop = asyncio.Event()
        opening = open_workers(
            redis,
            subscriptions,
            streams=streams_settings,
            dead_letters=DeadLetterRepository(database),
            settings=ConsumerSettings(stream_block=timedelta(milliseconds=100)),
            name="backfill:test:1",
            stop=stop,
        )
        async with opening as workers, asyncio.TaskGroup() as tasks:
            for worker in workers:
                tasks.create_task(worker.run(), name="backfill")
            try:
                ended = await ops("replay", "--from", "archive", "--group", BACKFILL, "--json")
            finally:
                stop.set()
    assert (ended.json["replayed"], ended.json["applied_now"]) == (30, 30)
    after = await rows(database, "SELECT * FROM leads.lead ORDER BY id")
    assert after == [(*row, "example.com") for row in before]


async def test_a_model_is_called_for_replayed_summaries_only_when_asked(
    ops: Ops,
    syncer: StartSyncer,
    create: Apply,
    database: Database,
    redis: Redis,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> None:
    async with syncer():
        unwanted, wanted = await create(2)
    provider = Says()
    settings = summarizer_settings(postgres_settings, streams_settings)
    async with running_summarizer(settings, provider=provider):
        await eventually(lambda: _has_group(redis))
    requests = [_request(event) for event in (unwanted, wanted)]
    await add_events(redis, requests)
    await redis.xgroup_setid(SUMMARIES, SUMMARIZER, "$")  # as if the group had lost its place
    arguments = ("replay", "--from", "stream", "--stream", SUMMARIES, "--json")
    async with running_summarizer(settings, provider=provider):
        quiet = await ops(*arguments, "--lead", unwanted.subject)
        assert (quiet.json["replayed"], provider.calls) == (1, 0)
        costly = await ops(*arguments, "--lead", wanted.subject, "--with-model", "--yes")
        assert (costly.json["replayed"], provider.calls) == (1, 1)
        assert await _states(database) == {
            unwanted.subject: ("failed", "replayed"),
            wanted.subject: ("succeeded", None),
        }
        # What was only ever replayed is no reason not to do it when it is wanted after all.
        after_all = await ops(*arguments, "--with-model", "--yes")
        assert (after_all.json["applied_now"], after_all.json["already_applied"]) == (1, 1)
        again = await ops(*arguments, "--with-model", "--yes")
        assert (again.json["already_applied"], provider.calls) == (2, 2)
    assert set((await _states(database)).values()) == {("succeeded", None)}


async def test_calling_a_model_wants_a_yes(ops: Ops) -> None:
    ended = await ops(
        "replay", "--from", "archive", "--stream", SUMMARIES, "--with-model", stdin=b"n\n"
    )
    assert "Call the language model for every summary" in ended.stderr
    assert ended.code == 1


def _request(lead: Event) -> Event:
    data = SummaryRequested(lead_id=cast("LeadCreated", lead.data).lead_id)
    return Event(source="tests", subject=lead.subject, data=data)


async def _states(database: Database) -> dict[object, tuple[object, ...]]:
    found = await rows(database, "SELECT lead_id::text, state, reason FROM leads.summary")
    return {row[0]: row[1:] for row in found}


async def _has_group(redis: Redis) -> bool:
    return bool(await redis.exists(SUMMARIES)) and bool(await redis.xinfo_groups(SUMMARIES))


async def _no() -> bool:
    return False
