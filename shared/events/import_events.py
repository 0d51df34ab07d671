"""Events about imports of files, and the ids of what they bring about."""

from typing import ClassVar
from uuid import UUID

from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.envelope import EventData


class ImportRequested(EventData):
    """A person sent a file of leads: write its rows. The file is kept beside the stream.

    Thin on purpose: no personal data. `mapping` is from column titles to fields, of which the
    empty one means that a column is passed over. `size` is in bytes. A dry run writes nothing.
    """

    type: ClassVar[str] = "import-requested"

    format: FileFormat
    mode: ImportMode
    mapping: dict[str, str]
    dry_run: bool
    sha256: str
    size: int
    requested_by: str


_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1


def row_event_id(import_id: UUID, row: int) -> UUID:
    """Return the id of a row's event: its import's, ending in the row's number.

    An import's own is that of row 0, so that no row has it too.
    """
    return UUID(int=import_id.int & ~_ROW_MASK | row)


def row_lead_id(event_id: UUID) -> UUID:
    """Return the id of the lead that a row makes: as its event's but for the bit before the row."""
    return UUID(int=event_id.int ^ (1 << _ROW_BITS))
