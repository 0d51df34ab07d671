"""A lead's row: the columns of a new one, and their names where SQL cannot do without."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.domain.lead import email_key
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLead:
    """What a lead's creation sets. Version and status have their defaults."""

    id: UUID
    fields: LeadFields
    source: str
    created_by: str | None

    @property
    def email_key(self) -> str:
        """The key by which two leads are the same person's."""
        return email_key(self.fields.email)

    def row(self, *, created_at: datetime | None = None) -> dict[str, Any]:
        """Return the values of the columns, for JSON."""
        return {
            "id": self.id,
            **dict(self.fields),
            "email_key": self.email_key,
            "source": self.source,
            "created_by": self.created_by,
            "created_at": created_at,
        }
