"""What files of leads there are, and what an import makes of them."""

from enum import StrEnum


class FileFormat(StrEnum):
    """How leads are written."""

    CSV = "csv"
    NDJSON = "ndjson"


class ImportMode(StrEnum):
    """What becomes of a row whose lead is known: it is left alone, or changed by externalId."""

    CREATE = "create"
    UPSERT = "upsert"
