"""Leads as clients write them."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict

from shared.events.lead_fields import GivenLead, LeadChanges, LeadFields, NotClearable


class LeadInput(LeadFields):
    """A lead as a client gives it: under the JSON names only, and nothing else."""

    model_config = ConfigDict(extra="forbid", validate_by_name=False)


def _without_defaults(schema: dict[str, Any]) -> None:
    """Take the defaults out of a schema: what is left out stays as it is."""
    for field in schema["properties"].values():
        field.pop("default", None)


_GIVEN = ConfigDict(extra="forbid", validate_by_name=False, json_schema_extra=_without_defaults)


class LeadPatch(LeadChanges):
    """What is to become of a lead (RFC 7396): null clears a field, one left out stays as it is."""

    model_config = _GIVEN


class LeadPut(GivenLead):
    """A lead under the externalId in the address. Optional fields left out stay as they are."""

    model_config = _GIVEN


class LeadUpsert(GivenLead):
    """A lead under its externalId. Optional fields left out stay as they are."""

    model_config = _GIVEN

    # Required here, where it is the lead's key.
    external_id: Annotated[UUID | None, *NotClearable]  # pyright: ignore[reportGeneralTypeIssues]
