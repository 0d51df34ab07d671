"""`ops log`."""

import click

from ops.environment import settings
from ops.output import as_json, print_json, print_table
from ops.running import run
from ops.selecting import limit
from shared.settings import PostgresSettings
from shared.storage.admin_log import AdminAction, AdminLog
from shared.storage.pool import open_database


@click.command("log")
@limit
@as_json
def command(*, limit: int, as_json: bool) -> None:
    """Show what operators did by hand."""
    actions = run(_latest(limit))
    if as_json:
        print_json(actions)
        return
    print_table(
        ("when", "who", "what", "#how many", "detail"),
        (
            (
                action.begun_at,
                action.actor,
                action.action,
                action.affected,
                ", ".join(f"{name}={value}" for name, value in action.detail.items()),
            )
            for action in actions
        ),
    )


async def _latest(limit: int) -> list[AdminAction]:
    async with open_database(settings(PostgresSettings)) as database:
        return await AdminLog(database).latest(limit=limit)
