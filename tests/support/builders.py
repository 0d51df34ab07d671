"""Made-up leads and events for tests: valid unless a test changes them."""

import itertools
from typing import Any
from uuid import UUID

from shared.events import catalog
from shared.events.data import (
    LeadCreated,
    LeadDeleted,
    LeadUpdated,
    LeadUpserted,
    SummaryRequested,
)
from shared.events.dead_letter import DeadLetter
from shared.events.envelope import Event, new_id
from shared.events.lead_fields import GivenLead, LeadChanges, LeadFields
from shared.streams.codec import encode

_numbers = itertools.count(1)
_ENVELOPE = ("accepted", "time", "attempt", "reply_to", "replay_id", "partition_key")


def lead_fields(**changes: Any) -> LeadFields:
    """Return a lead's fields with an e-mail address of its own."""
    number = next(_numbers)
    fields: dict[str, Any] = {
        "external_id": new_id(),
        "first_name": "Ada",
        "last_name": f"Lovelace {number}",
        "email": f"ada.{number}@example.com",
        "phone": "Y77 Q98-6303",
        "city": "London",
        "country": "United Kingdom",
    }
    return LeadFields(**(fields | changes))


def lead_created(
    lead: LeadFields | None = None,
    *,
    event_id: UUID | None = None,
    by: str = "manual",
    **envelope: Any,
) -> Event:
    """Return a lead-created event."""
    lead_id = new_id()
    return Event(
        id=event_id or new_id(),
        source="tests",
        subject=str(lead_id),
        data=LeadCreated(lead_id=lead_id, source=by, lead=lead or lead_fields()),
        **envelope,
    )


def lead_updated(lead_id: UUID | str, *, event_id: UUID | None = None, **given: Any) -> Event:
    """Return a lead-updated event; what is no envelope's is a change."""
    envelope = {name: given.pop(name) for name in _ENVELOPE if name in given}
    expected_version = given.pop("expected_version", None)
    return Event(
        id=event_id or new_id(),
        source="tests",
        subject=str(lead_id),
        data=LeadUpdated(
            lead_id=UUID(str(lead_id)),
            changes=LeadChanges(**given),
            expected_version=expected_version,
        ),
        **envelope,
    )


def lead_upserted(
    external_id: UUID, *, event_id: UUID | None = None, by: str = "manual", **given: Any
) -> Event:
    """Return a lead-upserted event; what is no envelope's is the lead's."""
    envelope = {name: given.pop(name) for name in _ENVELOPE if name in given}
    lead_id = new_id()
    names: dict[str, Any] = {"first_name": "Ada", "last_name": "Lovelace"}
    return Event(
        id=event_id or new_id(),
        source="tests",
        subject=str(lead_id),
        data=LeadUpserted(
            lead_id=lead_id, source=by, external_id=external_id, lead=GivenLead(**(names | given))
        ),
        **envelope,
    )


def lead_deleted(
    lead_id: UUID | str, *, expected_version: int | None = None, **envelope: Any
) -> Event:
    """Return a lead-deleted event."""
    return Event(
        source="tests",
        subject=str(lead_id),
        data=LeadDeleted(lead_id=UUID(str(lead_id)), expected_version=expected_version),
        **envelope,
    )


def summary_requested(*, event_id: UUID | None = None, **envelope: Any) -> Event:
    """Return a summary-requested event, of a lead that no other event is about."""
    lead_id = new_id()
    return Event(
        id=event_id or new_id(),
        source="tests",
        subject=str(lead_id),
        data=SummaryRequested(lead_id=lead_id),
        **envelope,
    )


def lead_body(**changes: Any) -> dict[str, Any]:
    """Return a lead as a client sends it; a change to None leaves the field out."""
    lead = lead_fields().model_dump(mode="json", exclude_none=True) | changes
    return {name: value for name, value in lead.items() if value is not None}


def letter_of(event: Event) -> DeadLetter:
    """Return the dead letter of an event that the syncer gave up."""
    return DeadLetter(
        group=catalog.SYNCER,
        event_id=str(new_id()),
        stream=catalog.LEADS,
        entry_id="1-1",
        type=event.type,
        reason="attempts",
        error="",
        attempts=5,
        fields={str(name): str(value) for name, value in encode(event).items()},
    )
