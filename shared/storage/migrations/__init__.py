"""The schema, and how it is brought up to date while services go on with their work."""

from shared.storage.migrations.runner import DIRECTORY, await_schema, known_migrations, migrate
from shared.storage.migrations.steps import MigrationError

__all__ = ["DIRECTORY", "MigrationError", "await_schema", "known_migrations", "migrate"]
