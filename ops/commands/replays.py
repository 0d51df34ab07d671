"""`ops replays`."""

from dataclasses import dataclass

import click

from ops.output import as_json, print_json, print_table
from ops.running import run, settings
from shared.events.replay import ReplayOrder
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.replays.jobs import ReplayJobs, ReplayProgress


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as it was ordered and how far it has come."""

    order: ReplayOrder
    progress: ReplayProgress


@click.command("replays")
@as_json
def command(*, as_json: bool) -> None:
    """Show the latest replays and how far they have come."""
    replays = run(_recent())
    if as_json:
        print_json(replays)
        return
    print_table(
        ("id", "ordered", "by", "from", "group", "state", "#added", "#settled"),
        (
            (
                replay.order.id,
                replay.order.ordered_at,
                replay.order.requested_by,
                replay.order.origin,
                replay.order.group,
                replay.progress.state,
                replay.progress.added,
                replay.progress.settled,
            )
            for replay in replays
        ),
    )


async def _recent() -> list[Replay]:
    async with open_redis(settings(StreamsSettings)) as redis:
        jobs = ReplayJobs(redis)
        return [Replay(order, await jobs.progress(order.id)) for order in await jobs.recent()]
