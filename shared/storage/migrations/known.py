"""Which migrations this version has: known without the drivers that apply them."""

from pathlib import Path

DIRECTORY = Path(__file__).parents[3] / "migrations"


def known_migrations(directory: Path = DIRECTORY) -> set[str]:
    """Return the ids of the migrations that this version has."""
    return {
        path.stem for path in directory.glob("*.sql") if not path.name.endswith(".rollback.sql")
    }
