"""`ops migrate`."""

import click

from ops.running import settings
from shared.settings import PostgresSettings
from shared.storage.migrations import MigrationError, migrate


@click.command("migrate")
def command() -> None:
    """Bring the database's schema up to date."""
    try:
        applied = migrate(settings(PostgresSettings).dsn)
    except MigrationError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Applied: {', '.join(applied)}" if applied else "The schema is up to date.")
