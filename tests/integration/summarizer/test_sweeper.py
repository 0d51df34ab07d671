"""Every request gets an end, also when the process that worked on it is gone."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID

import orjson
from redis.asyncio import Redis

from services.summarizer.sweeper import Sweeper
from shared.background import background
from shared.events.outcome import OutcomeStatus
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from tests.integration.summarizer.conftest import OpenSummarizer
from tests.support.eventually import eventually
from tests.support.summaries import Says, Summarizer, Waits, requested, stored_lead, stored_leads


def sweeper_of(summarizer: Summarizer) -> Sweeper:
    return Sweeper(
        summarizer.results, summarizer.replies, every=timedelta(milliseconds=20), grace=timedelta(0)
    )


async def pass_deadline(database: Database, *ids: UUID) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE leads.summary SET deadline = now() - interval '1 s' WHERE id = ANY($1)", ids
        )


async def ends(database: Database, lead_id: UUID) -> list[tuple[str, str, str | None]]:
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT state, outcome, reason FROM leads.summary JOIN leads.event USING (id)"
            " WHERE lead_id = $1",
            lead_id,
        )
    return [tuple(row) for row in rows]


async def test_abandoned_request_and_its_follower_are_ended_and_answered(
    database: Database, redis: Redis, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    events = [requested(lead_id, reply_to=f"reply:{number}") for number in range(2)]
    provider = Waits()
    async with summarizer_of(provider) as summarizer:
        stuck = asyncio.create_task(summarizer.ask(events[0]))
        await provider.asked.wait()
        await summarizer.ask(events[1])
        sweeper = sweeper_of(summarizer)
        assert await sweeper.sweep() == 0  # not late yet
        await pass_deadline(database, *(event.id for event in events))
        async with background(sweeper.run(), name="sweeper"):

            async def all_failed() -> bool:
                found = await ends(database, lead_id)
                return found == [("failed", "failed", "expired")] * 2

            async def all_answered() -> bool:
                return await redis.exists(*(str(event.reply_to) for event in events)) == 2

            await eventually(all_failed)
            await eventually(all_answered)
        provider.go.set()
        late = await stuck
        again = await summarizer.ask(events[0])
    assert late.status is again.status is OutcomeStatus.FAILED
    for event in events:
        [entry, *_] = entries_of(await redis.xrange(str(event.reply_to)))
        assert orjson.loads(entry.fields[b"body"])["reason"] == "expired"
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT summary FROM leads.lead") is None


async def test_replicas_share_the_sweeping(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    leads = await stored_leads(database, 20)
    provider = Waits()
    async with AsyncExitStack() as stack:
        summarizers = [await stack.enter_async_context(summarizer_of(provider)) for _ in range(3)]
        events = [requested(lead_id) for lead_id in leads]
        asked = [asyncio.create_task(summarizers[0].ask(event)) for event in events]
        await eventually(lambda: running(database, len(leads)))
        await pass_deadline(database, *(event.id for event in events))
        swept = await asyncio.gather(
            *(sweeper_of(summarizer).sweep() for summarizer in summarizers)
        )
        assert sum(swept) == 20
        provider.go.set()
        await asyncio.gather(*asked)


async def running(database: Database, number: int) -> bool:
    async with database.connection() as connection:
        count = await connection.fetchval("SELECT count(*) FROM leads.summary")
    return bool(count == number)


async def test_follower_of_a_finished_request_gets_its_end(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    leader, follower = requested(lead_id), requested(lead_id)
    async with summarizer_of(Says()) as summarizer:
        await summarizer.ask(leader)
        await summarizer.ask(follower)
        # What is left when a worker dies between its commit and answering those that joined.
        async with database.connection() as connection:
            await connection.execute(
                "UPDATE leads.summary SET state = 'queued', joined_id = $2, summary = NULL,"
                " next_action = NULL, finished_at = NULL, deadline = now() - interval '1 s'"
                " WHERE id = $1",
                follower.id,
                leader.id,
            )
            await connection.execute(
                "UPDATE leads.event SET outcome = 'accepted' WHERE id = $1", follower.id
            )
        assert await sweeper_of(summarizer).sweep() == 0
    assert await ends(database, lead_id) == [("succeeded", "summarised", None)] * 2
