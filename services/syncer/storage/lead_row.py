"""A lead's row: what events make of it, and its columns' names where SQL cannot do without."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from shared.domain.lead import LeadSource, email_key
from shared.domain.values import value
from shared.events.data import LeadCreated, LeadUpdated, LeadUpserted
from shared.events.lead_fields import LeadFields

# `:columns`, or `:after.columns` for those of a row source called `after`.
_COLUMNS = re.compile(r":(\w+\.)?columns\b")


def with_columns(statement: str) -> str:
    """Return a statement with the columns of `LeadFields` named where it says `:columns`.

    The one place where SQL is put together: INSERT and SET have no other way to name many
    columns, and a list of them in each statement would have to grow with each new field.
    """
    return _COLUMNS.sub(
        lambda match: ", ".join(f"{match[1] or ''}{name}" for name in LeadFields.model_fields),
        statement,
    )


@value(kw_only=True)
class NewLead:
    """What a lead's creation sets. Version and status have their defaults."""

    id: UUID
    fields: LeadFields
    source: str
    created_by: str | None

    @classmethod
    def of(cls, data: LeadCreated | LeadUpserted) -> Self:
        """Return the lead that an event asks for."""
        fields: LeadFields = data.lead
        if isinstance(data, LeadUpserted):
            fields = data.lead.model_copy(update={"external_id": data.external_id})
        return cls(id=data.lead_id, fields=fields, source=data.source, created_by=data.created_by)

    @property
    def email_key(self) -> str:
        """The key by which two leads are the same person's."""
        return email_key(self.fields.email)

    def row(self, *, created_at: datetime | None = None) -> dict[str, Any]:
        """Return the values of the columns, for JSON."""
        return {
            "id": self.id,
            **vars(self.fields),
            "email_key": self.email_key,
            "source": self.source,
            "created_by": self.created_by,
            "created_at": created_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """New values of a lead's columns. A person's edits are kept from everybody else's."""

    values: Mapping[str, Any]
    by_person: bool

    @classmethod
    def of(cls, data: LeadUpdated | LeadUpserted) -> Self:
        """Return the change of a lead that an event asks for."""
        if isinstance(data, LeadUpdated):
            return cls(values=data.changes.given(), by_person=True)
        values = data.lead.given() | {"external_id": data.external_id}
        return cls(values=values, by_person=data.source == LeadSource.MANUAL)

    def new_values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the change really changes in a lead."""
        edited = set(row["edited_fields"])
        return {
            name: value
            for name, value in self.values.items()
            if row[name] != value and (self.by_person or name not in edited)
        }

    def edited_fields(self, row: Mapping[str, Any], new: Iterable[str]) -> list[str]:
        """Return the columns that persons have edited once these are changed."""
        edited = set(row["edited_fields"])
        return sorted(edited.union(new) if self.by_person else edited)
