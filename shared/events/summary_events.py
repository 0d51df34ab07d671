"""Events about summaries."""

from typing import ClassVar
from uuid import UUID

from shared.events.envelope import EventData


class SummaryRequested(EventData):
    """A person wants a lead's summary and next action written.

    `regenerate` calls the model even when nothing changed since the last summary. With
    `background` no client waits: people's requests go first within the model's budget.
    """

    type: ClassVar[str] = "summary-requested"

    lead_id: UUID
    requested_by: str | None = None
    regenerate: bool = False
    background: bool = False
