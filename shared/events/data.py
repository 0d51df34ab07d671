"""The data of each event type; `catalog` says which stream carries it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar
from uuid import UUID

from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.envelope import Event, EventData
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

    @property
    def partition_key(self) -> str | None:
        """The key of the lead that is made, unless it is its id."""
        return None if self.lead.external_id is None else str(self.lead.external_id)

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

    @property
    def partition_key(self) -> str:
        """The key of the lead that is made, and of nearly every lead that is there."""
        return str(self.external_id)

    def intent(self) -> str:
        """Return JSON without the new lead's id."""
        return self.model_dump_json(exclude={"lead_id"})


def under_key(event: Event, moved_keys: Mapping[UUID, str]) -> Event:
    """Return an upsert's event under the key of its lead, if that is among these.

    They are the partition keys by externalId of leads for which it is not their externalId.
    """
    data = event.data
    key = moved_keys.get(data.external_id) if isinstance(data, LeadUpserted) else None
    return event if key is None else replace(event, partition_key=key)


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


class ImportRequested(EventData):
    """A person sent a file of leads: write its rows. The file is kept beside the stream.

    Thin on purpose: no personal data. `mapping` is from column titles to fields, of which the
    empty one means that a column is passed over. `size` is in bytes, `charset` that of a file
    which is not UTF-8. A dry run writes nothing.
    """

    type: ClassVar[str] = "import-requested"

    format: FileFormat
    mode: ImportMode
    mapping: dict[str, str]
    dry_run: bool
    sha256: str
    size: int
    requested_by: str
    charset: str | None = None

    def intent(self) -> str:
        """Return JSON without what is not given, which events from before do not have."""
        return self.model_dump_json(exclude_none=True)


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
