"""What files of leads there are, and what an import makes of them."""

from dataclasses import dataclass
from enum import StrEnum


class FileFormat(StrEnum):
    """How leads are written."""

    CSV = "csv"
    NDJSON = "ndjson"


class ImportMode(StrEnum):
    """What becomes of a row whose lead is known: it is left alone, or changed by externalId."""

    CREATE = "create"
    UPSERT = "upsert"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """How many rows of a file had which end so far.

    `duplicate` rows met another lead with their e-mail address or externalId. `refused` ones
    could not be written although they are well-formed.
    """

    rows: int = 0
    created: int = 0
    updated: int = 0
    duplicate: int = 0
    invalid: int = 0
    refused: int = 0

    @property
    def bad(self) -> int:
        """How many rows were not written: those that the file of errors names."""
        return self.duplicate + self.invalid + self.refused
