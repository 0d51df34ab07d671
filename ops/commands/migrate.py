"""`ops migrate`."""

import click

from ops.output import as_json, print_json
from ops.running import settings
from shared.settings import PostgresSettings
from shared.storage.migrations import MigrationError, migrate


@click.command("migrate")
@as_json
def command(*, as_json: bool) -> None:
    """Bring the database's schema up to date."""
    try:
        applied = migrate(settings(PostgresSettings).direct_dsn)
    except MigrationError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json({"applied": applied})
    else:
        click.echo(f"Applied: {', '.join(applied)}" if applied else "The schema is up to date.")
