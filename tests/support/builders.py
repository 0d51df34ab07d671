"""Made-up leads and events for tests: valid unless told otherwise."""

import itertools
from typing import Any
from uuid import UUID

from shared.events.envelope import Event, new_id
from shared.events.lead_events import LeadCreated
from shared.events.lead_fields import LeadFields

_numbers = itertools.count(1)


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
    lead: LeadFields | None = None, *, event_id: UUID | None = None, **envelope: Any
) -> Event:
    """Return a lead-created event."""
    lead_id = new_id()
    return Event(
        id=event_id or new_id(),
        source="tests",
        subject=str(lead_id),
        data=LeadCreated(lead_id=lead_id, source="manual", lead=lead or lead_fields()),
        **envelope,
    )


def lead_body(**changes: Any) -> dict[str, Any]:
    """Return a lead as a client sends it; a change to None leaves the field out."""
    lead = lead_fields().model_dump(mode="json", exclude_none=True) | changes
    return {name: value for name, value in lead.items() if value is not None}
