"""`ops sync`."""

import asyncio
from datetime import timedelta
from typing import Any

import click
import orjson

from ops.output import as_json, print_json
from ops.running import run, settings
from shared.background import background
from shared.domain.errors import UnavailableError
from shared.events.envelope import Event, now
from shared.events.lead_events import SyncRequested
from shared.lifecycle import instance_name
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.publisher import add_events
from shared.streams.replies import Replies

BLOCK = timedelta(seconds=1)


@click.command("sync")
@click.option("--timeout", default=90.0, show_default=True, help="Seconds to wait for the end.")
@as_json
def command(*, timeout: float, as_json: bool) -> None:
    """Fetch leads from the external source now.

    Prints how many were fetched, created, duplicate, invalid.
    """
    report = run(_request_sync(settings(StreamsSettings), timeout=timeout))
    if as_json:
        print_json(report)
    else:
        for name, value in report.items():
            if value is not None:
                click.echo(f"{name:<10} {value}")
    if report.get("error"):
        raise SystemExit(1)


async def _request_sync(settings: StreamsSettings, *, timeout: float) -> dict[str, Any]:  # noqa: ASYNC109 (the operator's)
    """Publish a request, await its end and return the report of the run."""
    async with open_redis(settings) as redis, open_redis(settings, block=BLOCK) as reader:
        replies = Replies(reader, instance=instance_name("ops"), block=BLOCK)
        event = Event(
            source="ops",
            subject="sync",
            data=SyncRequested(requested_by="operator"),
            reply_to=replies.address,
            expires=now() + timedelta(seconds=timeout),
        )
        async with background(replies.run(), name="replies"):
            with replies.expect(event.id) as reply:
                await add_events(redis, [event])
                try:
                    outcome = await asyncio.wait_for(reply, timeout)
                except TimeoutError:
                    raise UnavailableError(
                        "No syncer answered in time; the request stands"
                    ) from None
    return dict(orjson.loads(outcome.body))
