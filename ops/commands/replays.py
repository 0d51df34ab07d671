"""`ops replays`."""

from dataclasses import dataclass

import click

from ops.environment import settings
from ops.output import as_json, print_json, print_table
from ops.running import run
from ops.selecting import Text
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
@click.option("--cancel", type=Text(), metavar="ID", help="Have this replay put nothing more back.")
@as_json
def command(*, cancel: str | None, as_json: bool) -> None:
    """Show the latest replays and how far they have come.

    One that is cancelled stops wherever it runs, and goes on with `ops replay --job`.
    """
    if cancel is not None:
        run(_cancel(cancel))
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


async def _cancel(replay_id: str) -> None:
    async with open_redis(settings(StreamsSettings)) as redis:
        if not await ReplayJobs(redis).cancel(replay_id):
            raise click.ClickException(f"There is no replay {replay_id} that is not over")
