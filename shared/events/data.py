"""The base of every event's data: a versioned, immutable pydantic model."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """camelCase on the wire, snake_case in Python, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        frozen=True,
        extra="ignore",
    )


class EventData(WireModel):
    """What an event says. Fields a reader does not know are ignored.

    `version` grows only with a change that an older reader would misread; such an event
    is parked by readers that are too old for it.
    """

    type: ClassVar[str]
    version: ClassVar[int] = 1

    @classmethod
    def schema_uri(cls) -> str:
        """Return the envelope's `dataschema`, e.g. `urn:leads:lead-created:1`."""
        return f"urn:leads:{cls.type}:{cls.version}"

    def intent(self) -> str:
        """Return JSON of what is asked for, without what each asking makes up anew."""
        return self.model_dump_json()
