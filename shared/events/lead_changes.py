"""A lead's fields as somebody gives some of them: those left out are told from those cleared."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    BeforeValidator,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from shared.domain.lead import LeadStatus
from shared.events.data import WireModel
from shared.events.lead_fields import DateOfBirth, Email, LeadFields, Name, Phone, Picture, Place


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("not_clearable", "Cannot be cleared")
    return value


class _WithoutNull:
    """Says in a schema what is said of the values: null is none of them."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        value, _null = schema.pop("anyOf")
        return {**value, **schema}


# Of an optional field: it may be left out, which is None in Python, and never be null.
NotClearable = BeforeValidator(_refuse_null), _WithoutNull()


class GivenFields(WireModel):
    """Only what was given is on the wire; null is given too, and clears the field."""

    def given(self) -> dict[str, Any]:
        """Return the given fields by their names in Python."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}

    @model_serializer(mode="wrap")
    def _without_the_rest(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        names = self.model_fields_set.union(fields[name].alias for name in self.model_fields_set)
        everything: dict[str, Any] = serialize(self)
        return {key: everything[key] for key in everything if key in names}


class LeadChanges(GivenFields):
    """What is to become of a lead's fields. Those that every lead has cannot be cleared."""

    external_id: UUID | None = None
    first_name: Annotated[Name | None, *NotClearable] = None
    last_name: Annotated[Name | None, *NotClearable] = None
    email: Annotated[Email | None, *NotClearable] = None
    phone: Phone | None = None
    cell: Phone | None = None
    dob: DateOfBirth | None = None
    city: Place | None = None
    state: Place | None = None
    country: Place | None = None
    picture: Picture | None = None
    status: Annotated[LeadStatus | None, *NotClearable] = None


class GivenLead(LeadFields, GivenFields):
    """A whole lead, of whose optional fields some may not be known."""
