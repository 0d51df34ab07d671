"""Events about imports of files."""

from typing import ClassVar

from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.data import EventData


class ImportRequested(EventData):
    """Somebody sent a file of leads: write its rows. The file is kept beside the stream.

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
