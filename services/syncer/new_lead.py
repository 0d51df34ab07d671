"""The lead that an event asks for."""

from uuid import UUID

from shared.domain.lead import email_key
from shared.events.envelope import Event
from shared.events.lead_fields import LeadFields
from shared.storage.lead_creation import NewLead


def new_lead(
    event: Event, lead: LeadFields, *, lead_id: UUID, source: str, created_by: str | None
) -> NewLead:
    """Return a lead as it was when the event was made."""
    return NewLead(
        id=lead_id,
        external_id=lead.external_id,
        first_name=lead.first_name,
        last_name=lead.last_name,
        email=lead.email,
        email_key=email_key(lead.email),
        phone=lead.phone,
        cell=lead.cell,
        dob=lead.dob,
        city=lead.city,
        state=lead.state,
        country=lead.country,
        picture=lead.picture,
        source=source,
        created_by=created_by,
        created_at=event.time,
    )
