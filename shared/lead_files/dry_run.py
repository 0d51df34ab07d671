"""What would become of rows, as far as can be told from the leads that there are."""

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from shared.domain.lead_file import ImportMode
from shared.events.lead_fields import LeadFields
from shared.events.outcome import OutcomeStatus
from shared.lead_files.importing import RowEnd
from shared.lead_files.reading import Row
from shared.storage.import_repository import ImportRepository


class DryRun:
    """Writes nothing. Rows are held against stored leads, and not against each other."""

    def __init__(self, imports: ImportRepository, mode: ImportMode) -> None:
        self._imports = imports
        self._mode = mode

    async def write(self, rows: Sequence[Row]) -> list[RowEnd]:
        """Return the end that each row would have; raises `UnavailableError`."""
        leads = [(UUID(int=row.number), cast("LeadFields", row.lead)) for row in rows]
        conflicts = await self._imports.in_the_way(leads)
        return [self._end(conflicts.get(key)) for key, _ in leads]

    def _end(self, conflict: dict[str, str] | None) -> RowEnd:
        if conflict is None:
            return RowEnd(OutcomeStatus.CREATED)
        if self._mode is ImportMode.UPSERT and conflict["field"] == "externalId":
            return RowEnd(OutcomeStatus.UPDATED)
        return RowEnd(OutcomeStatus.DUPLICATE, conflict)
