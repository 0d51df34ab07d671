"""What is known of a lead when its summary is written."""

from datetime import date

from pydantic import BaseModel, ConfigDict


class LeadFacts(BaseModel):
    """The input of a summary: as little of the person as will do.

    `missing` names what the record lacks (`phone`, `city`, `country`). E-mail, phone numbers
    and date of birth are there only where the operator wants them to be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_name: str
    last_name: str
    city: str | None = None
    state: str | None = None
    country: str | None = None
    status: str
    source: str
    created_on: date
    missing: tuple[str, ...] = ()
    email: str | None = None
    phone: str | None = None
    cell: str | None = None
    dob: str | None = None

    @property
    def name(self) -> str:
        """Return the full name."""
        return f"{self.first_name} {self.last_name}"

    @property
    def place(self) -> str | None:
        """Return where the lead lives, from small to large."""
        return ", ".join(filter(None, (self.city, self.state, self.country))) or None
