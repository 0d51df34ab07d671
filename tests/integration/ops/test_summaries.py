"""`ops summaries`: asks for what is missing, once, and lifts a pause of the provider's."""

from datetime import timedelta

from redis.asyncio import Redis

from shared.events import catalog
from shared.events.data import SummaryRequested
from shared.storage.pool import Database
from shared.streams.codec import decode, entries_of
from shared.streams.model_pauses import pause_key
from tests.integration.ops.conftest import Ops
from tests.support.summaries import stored_leads


async def test_a_dry_run_counts_and_requests_nothing(
    ops: Ops, database: Database, redis: Redis
) -> None:
    await stored_leads(database, 3)
    ended = await ops("summaries", "backfill", "--dry-run", "--json")
    assert ended.json == {
        "leads": 3,
        "tokens_each": None,
        "tokens": None,
        "requested": 0,
        "job": ended.json["job"],
    }
    assert not await redis.exists(catalog.SUMMARIES)


async def test_every_lead_without_a_summary_is_asked_for_in_the_background(
    ops: Ops, database: Database, redis: Redis
) -> None:
    done, *lacking = await stored_leads(database, 4)
    async with database.connection() as connection:
        await connection.execute("UPDATE leads.lead SET summary = 'Known.' WHERE id = $1", done)
    ended = await ops("summaries", "backfill", "--rate", "1000", "--json")
    assert ended.json["requested"] == 3
    requests = [decode(entry.fields) for entry in entries_of(await redis.xrange(catalog.SUMMARIES))]
    assert [request.data for request in requests] == [
        SummaryRequested(lead_id=lead_id, background=True) for lead_id in sorted(lacking)
    ]


async def test_a_job_that_is_run_again_asks_for_nothing_twice(
    ops: Ops, database: Database, redis: Redis
) -> None:
    await stored_leads(database, 3)
    await ops("summaries", "backfill", "--rate", "1000", "--job", "one", "--limit", "2")
    await ops("summaries", "backfill", "--rate", "1000", "--job", "one")
    ids = [entry.event_id for entry in entries_of(await redis.xrange(catalog.SUMMARIES))]
    # The entries are repeated, the events are not: the summarizer applies an id once.
    assert len(ids) == 5
    assert len(set(ids)) == 3


async def test_pauses_are_lifted_and_named(ops: Ops, redis: Redis) -> None:
    names = ("groq:openai/gpt-oss-20b", "groq:qwen2.5:7b")
    for name in names:
        await redis.set(pause_key(redis, name, "account"), "", px=timedelta(hours=20))
    await redis.set("budget:groq:qwen2.5:7b", "no pause")
    lifted = (await ops("summaries", "resume", "--json")).json
    assert sorted(one["model"] for one in lifted) == sorted(names)
    assert {one["seconds"] // 100 for one in lifted} <= {719, 720}
    assert await redis.keys("*:paused:*") == []
    assert "Nothing is paused" in (await ops("summaries", "resume")).stdout
