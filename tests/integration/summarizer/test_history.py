"""A lead's summaries with their provenance."""

from typing import Any

import orjson

from services.api.storage.history import LeadHistory
from shared.events.envelope import new_id
from shared.storage.pool import Database
from tests.integration.summarizer.conftest import OpenSummarizer
from tests.support.summaries import Says, answer, is_down, requested, stored_lead


async def test_every_request_is_there_newest_first(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    events = [requested(lead_id, requested_by="somebody", regenerate=True) for _ in range(3)]
    async with summarizer_of(Says(answer("one"), answer("two"), is_down())) as summarizer:
        for event in events:
            await summarizer.ask(event)
    history = LeadHistory(database)
    page = await history.summaries(lead_id, limit=2)
    rest = await history.summaries(lead_id, limit=2, after=page[-1].position)
    assert [one.position.id for one in (*page, *rest)] == [event.id for event in reversed(events)]
    failed: dict[str, Any] = orjson.loads(page[0].json)
    assert (failed["state"], failed["reason"]) == ("failed", "provider-unavailable")
    entry: dict[str, Any] = orjson.loads(rest[0].json)
    assert entry["summary"] == "one"
    assert (entry["provider"], entry["model"], entry["promptVersion"]) == (
        "tests",
        "says-hello",
        "1",
    )
    assert (entry["tokensIn"], entry["tokensOut"], entry["attempts"]) == (100, 20, 1)
    assert (entry["leadVersion"], entry["requestedBy"]) == (1, "somebody")


async def test_there_is_nothing_about_an_unknown_lead(database: Database) -> None:
    history = LeadHistory(database)
    assert await history.summaries(new_id(), limit=10) == []
