"""Events about leads."""

from typing import ClassVar
from uuid import UUID

from shared.events.envelope import EventData
from shared.events.lead_fields import GivenLead, LeadChanges, LeadFields


class LeadCreated(EventData):
    """A person or a source made a lead: insert it unless it is known already.

    The lead's id and creation time come with the event (`lead_id`, the envelope's
    `time`), so that a replay rebuilds the same row.
    """

    type: ClassVar[str] = "lead-created"

    lead_id: UUID
    source: str
    created_by: str | None = None
    lead: LeadFields

    def intent(self) -> str:
        """Return JSON without the new lead's id.

        What is not given is left out: a field that a later version adds must not make an
        old event look like another wish.
        """
        return self.model_dump_json(exclude={"lead_id"}, exclude_none=True)


class LeadUpdated(EventData):
    """A person changed a lead, provided that it is still in `expected_version` if there is one."""

    type: ClassVar[str] = "lead-updated"

    lead_id: UUID
    changes: LeadChanges
    expected_version: int | None = None
    updated_by: str | None = None


class LeadUpserted(EventData):
    """A person or a source has a lead under an externalId: change it, or else make it.

    Fields that are not given stay as they are. `lead_id` and `created_by` are for a lead that
    is made now. `external_id` is the lead's, whatever `lead` says.
    """

    type: ClassVar[str] = "lead-upserted"

    lead_id: UUID
    source: str
    created_by: str | None = None
    external_id: UUID
    lead: GivenLead

    def intent(self) -> str:
        """Return JSON without the new lead's id."""
        return self.model_dump_json(exclude={"lead_id"})


class LeadDeleted(EventData):
    """A person wants a lead deleted, and its person forgotten.

    Only if it is still in `expected_version`, if there is one.
    """

    type: ClassVar[str] = "lead-deleted"

    lead_id: UUID
    expected_version: int | None = None
    deleted_by: str | None = None


class LeadChanged(EventData):
    """A lead was committed in a new version, its last one when `change` is `deleted`.

    Thin on purpose: no personal data.
    """

    type: ClassVar[str] = "lead-changed"

    lead_id: UUID
    lead_version: int
    change: str


class SyncRequested(EventData):
    """Fetch leads from the external source now. `requested_by` is `schedule`, or who asked."""

    type: ClassVar[str] = "sync-requested"

    requested_by: str
