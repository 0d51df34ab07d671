"""Events about leads."""

from typing import ClassVar
from uuid import UUID

from shared.events.data import EventData
from shared.events.lead_fields import LeadFields


class LeadCreated(EventData):
    """Somebody or something made a lead: insert it unless it is known already.

    The lead's id and creation time come with the event (`lead_id`, the envelope's
    `time`), so that a replay rebuilds the same row.
    """

    type: ClassVar[str] = "lead-created"

    lead_id: UUID
    source: str
    created_by: str | None = None
    lead: LeadFields

    def intent(self) -> str:
        """Return JSON without the new lead's id."""
        return self.model_dump_json(exclude={"lead_id"})


class LeadChanged(EventData):
    """A lead was committed in a new version. Thin on purpose: no personal data."""

    type: ClassVar[str] = "lead-changed"

    lead_id: UUID
    lead_version: int
    change: str


class SyncRequested(EventData):
    """Fetch leads from the external source now. `tick` is the schedule's time, if it asked."""

    type: ClassVar[str] = "sync-requested"

    requested_by: str
