"""Events about summaries."""

from typing import ClassVar
from uuid import UUID

from shared.events.data import EventData


class SummaryRequested(EventData):
    """Somebody wants a lead's summary and next action written.

    `regenerate` calls the model even when nothing changed since the last summary.
    """

    type: ClassVar[str] = "summary-requested"

    lead_id: UUID
    requested_by: str | None = None
    regenerate: bool = False
