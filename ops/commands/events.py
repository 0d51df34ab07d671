"""`ops events`."""

from typing import Any

import click
import orjson

from ops.environment import settings
from ops.output import as_json, print_json, print_table
from ops.running import run
from ops.selecting import limit, selecting, selection
from ops.storage.lead_keys import with_lead_ids
from shared.events.replay import Selection
from shared.settings import PostgresSettings
from shared.storage.event_archive import AppliedEvent, EventArchive
from shared.storage.pool import open_database


@click.command("events")
@selecting
@limit
@as_json
def command(*, limit: int, as_json: bool, **conditions: Any) -> None:
    """Browse applied events, newest first.

    With --json each event comes with its data, which may be personal.
    """
    events = run(_latest(selection(**conditions), limit=limit))
    if as_json:
        print_json([_whole(event) for event in events])
        return
    print_table(
        ("applied", "type", "about", "outcome", "event", "correlation", "detail"),
        (
            (
                event.recorded_at,
                event.type,
                event.subject,
                event.outcome,
                event.id,
                event.correlation_id,
                event.detail,
            )
            for event in events
        ),
    )


async def _latest(wanted: Selection, *, limit: int) -> list[AppliedEvent]:
    async with open_database(settings(PostgresSettings)) as database:
        wanted = await with_lead_ids(database, wanted)
        return await EventArchive(database).latest(wanted, limit=limit)


def _whole(event: AppliedEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "time": event.time,
        "correlation_id": event.correlation_id,
        "dataschema": event.dataschema,
        "data": orjson.Fragment(event.data),
        "applied_at": event.applied_at,
        "recorded_at": event.recorded_at,
        "outcome": event.outcome,
        "detail": None if event.detail is None else orjson.Fragment(event.detail),
    }
