"""A lead's summaries with their provenance."""

from typing import Any

import orjson

from services.api.storage.history import Position, SummaryHistory
from shared.events.envelope import new_id
from shared.storage.pool import Database
from tests.integration.summarizer.conftest import OpenDesk
from tests.support.summaries import Says, answer, is_down, requested, stored_lead


async def test_every_request_is_there_newest_first(database: Database, desk_of: OpenDesk) -> None:
    lead_id = await stored_lead(database)
    events = [requested(lead_id, requested_by="somebody", regenerate=True) for _ in range(3)]
    async with desk_of(Says(answer("one"), answer("two"), is_down())) as desk:
        for event in events:
            await desk.ask(event)
    history = SummaryHistory(database)
    page = await history.page(lead_id, limit=2)
    rest = await history.page(lead_id, limit=2, after=Position(page[-1].requested_at, page[-1].id))
    assert [one.id for one in (*page, *rest)] == [event.id for event in reversed(events)]
    failed: dict[str, Any] = orjson.loads(page[0].json)
    assert (failed["state"], failed["reason"]) == ("failed", "provider-unavailable")
    first = await history.get(events[0].id)
    assert first is not None
    entry: dict[str, Any] = orjson.loads(first.json)
    assert entry["summary"] == "one"
    assert (entry["provider"], entry["model"], entry["promptVersion"]) == (
        "tests",
        "says-hello",
        "1",
    )
    assert (entry["tokensIn"], entry["tokensOut"], entry["attempts"]) == (100, 20, 1)
    assert (entry["leadVersion"], entry["requestedBy"]) == (1, "somebody")


async def test_there_is_nothing_about_an_unknown_lead(database: Database) -> None:
    history = SummaryHistory(database)
    assert await history.page(new_id(), limit=10) == []
    assert await history.get(new_id()) is None
