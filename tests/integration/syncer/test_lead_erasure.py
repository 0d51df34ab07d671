"""lead-deleted events erase people: nothing is kept of them anywhere."""

from uuid import UUID

import orjson
from redis.asyncio import Redis

from shared.events.outcome import Outcome, OutcomeStatus
from shared.settings import StreamsSettings
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.pool import Database
from tests.integration.syncer.conftest import Asker, StartSyncer, rows
from tests.support.builders import lead_created, lead_deleted, lead_updated, letter_of
from tests.support.eventually import eventually
from tests.support.partitions import all_leads_done, lead_entries
from tests.support.summaries import Says, open_summarizer, requested
from tests.support.traces import CANARY, kept_in_postgres, kept_in_redis, someone


async def test_nothing_is_kept_of_a_person(
    start_syncer: StartSyncer,
    asker: Asker,
    database: Database,
    redis: Redis,
    streams_settings: StreamsSettings,
) -> None:
    made = lead_created(someone())
    lead_id = UUID(made.subject)
    async with start_syncer():
        await asker.ask([made])
        await asker.ask([lead_updated(lead_id, phone=f"{CANARY}-phone")])
        offered_again = lead_created(someone(external_id=None), by="randomuser")
        [duplicate] = await asker.ask([offered_again])
        assert duplicate.status is OutcomeStatus.DUPLICATE
        async with open_summarizer(
            database, redis, streams_settings, Says(_about_canary())
        ) as summarizer:
            await summarizer.ask(requested(lead_id))
        await DeadLetterRepository(database).add_letter(letter_of(made))
        assert await kept_in_postgres(database) == ["lead", "event", "summary", "dead_letter"]
        assert await kept_in_redis(redis) != []

        [outcome] = await asker.ask([lead_deleted(lead_id)])
        assert outcome == Outcome(OutcomeStatus.DELETED, b'{"version":4}')
        assert await kept_in_postgres(database) == []
        await eventually(lambda: _forgotten(redis))
        # Nor when a source goes on to offer them.
        again = lead_created(someone(), by="randomuser")
        [refused] = await asker.ask([again])
        assert refused == Outcome(OutcomeStatus.ERASED, b'{"field":"email"}')
        assert await kept_in_postgres(database) == []
        await eventually(lambda: _forgotten(redis))
    history = await rows(database, "SELECT type, outcome FROM leads.event ORDER BY recorded_at")
    assert [(row["type"], row["outcome"]) for row in history] == [
        ("lead-created", "created"),
        ("lead-updated", "updated"),
        ("lead-created", "duplicate"),
        ("summary-requested", "summarised"),
        ("lead-deleted", "deleted"),
        ("lead-created", "erased"),
    ]


async def test_the_streams_keep_what_is_about_others(
    start_syncer: StartSyncer, asker: Asker, redis: Redis
) -> None:
    others = [lead_created() for _ in range(30)]
    made = lead_created(someone())
    async with start_syncer():
        await asker.ask([*others[:15], made, *others[15:]])
        await asker.ask([lead_deleted(made.subject)])
        kept = await lead_entries(redis)
    assert {entry.event_id for entry in kept} >= {str(event.id) for event in others}
    assert str(made.id) not in {entry.event_id for entry in kept}
    assert await all_leads_done(redis)


async def _forgotten(redis: Redis) -> bool:
    """Return whether Redis has nothing left: read replies go with the next look for others."""
    return await kept_in_redis(redis) == []


def _about_canary() -> str:
    return orjson.dumps({"summary": f"About {CANARY}", "next_action": f"Call {CANARY}"}).decode()
