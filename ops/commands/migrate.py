"""`ops migrate`."""

import click

from ops.environment import settings
from ops.output import as_json, print_json
from shared.settings import PostgresSettings
from shared.storage.migrations.runner import await_schema, migrate
from shared.storage.migrations.steps import MigrationError


@click.command("migrate")
@click.option(
    "--wait",
    "only_wait",
    is_flag=True,
    help="Apply nothing, and end when another process has, or PostgreSQL does not answer.",
)
@as_json
def command(*, only_wait: bool, as_json: bool) -> None:
    """Bring the database's schema up to date, while services run."""
    postgres = settings(PostgresSettings)

    def tell(line: str) -> None:
        click.echo(line, err=as_json)

    try:
        is_known = not only_wait or await_schema(postgres.dsn)
        applied = [] if only_wait else migrate(postgres.direct_dsn, tell)
    except MigrationError as error:
        # The driver's reasons have several lines.
        raise click.ClickException(" ".join(str(error).split())) from error
    if as_json:
        print_json({"applied": applied})
    elif not is_known:
        click.echo("PostgreSQL does not answer: going on without it.")
    else:
        click.echo(f"Applied {len(applied)}." if applied else "The schema is up to date.")
