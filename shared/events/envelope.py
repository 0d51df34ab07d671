"""An event: its data, a versioned immutable model, in the envelope of CloudEvents 1.0."""

import functools
import re
import time
from dataclasses import field
from datetime import UTC, datetime
from typing import ClassVar, Generic
from uuid import UUID

import uuid_utils.compat
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from typing_extensions import TypeVar

from shared.domain.values import value


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
    @functools.cache
    def schema_uri(cls) -> str:
        """Return the envelope's `dataschema`, e.g. `urn:leads:lead-created:1`."""
        return f"urn:leads:{cls.type}:{cls.version}"

    @property
    def partition_key(self) -> str | None:
        """The event's partition key where it follows from what the event says."""
        return None

    def intent(self) -> str:
        """Return JSON of what is asked for, without what each asking makes up anew."""
        return self.model_dump_json()


# What a client may name a request: no more, as it is logged.
is_sane_id = re.compile(r"[A-Za-z0-9._-]{1,128}").fullmatch

Data_co = TypeVar("Data_co", bound=EventData, covariant=True, default=EventData)


def new_id() -> UUID:
    """Return a UUIDv7: unique, and in the order of creation."""
    return uuid_utils.compat.uuid7()


def now() -> datetime:
    """Return the present in UTC, in whole milliseconds: what the REST contract shows."""
    milliseconds = time.time_ns() // 1_000_000
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


@value(kw_only=True)
class Event(Generic[Data_co]):
    """One event: `Event[LeadCreated]`, or an `Event` of any type.

    `id` stays the same across retry, redelivery and replay. `reply_to` names the stream
    where the asker waits until `expires`; `attempt` counts from 1; `only_group` and
    `replay_id` mark entries put back for one consumer group, `replay_number` which of a
    replay's it is. A replayed event calls no language model unless it comes `with_model`.

    Events with the same `key` take effect in the order in which they were accepted. Those about a
    lead have the lead's, which `partition_key` gives where neither data nor subject do.
    `accepted` is where in its stream the event first was, for one that was put back: layout and
    entry id, in a form that sorts. `traceparent` is the context of its trace, and `tracelink` of
    the one that it was in before it was put back.
    """

    source: str
    subject: str
    data: Data_co
    id: UUID = field(default_factory=new_id)
    time: datetime = field(default_factory=now)
    correlation_id: str = ""
    traceparent: str | None = None
    tracestate: str | None = None
    tracelink: str | None = None
    reply_to: str | None = None
    expires: datetime | None = None
    attempt: int = 1
    only_group: str | None = None
    replay_id: str | None = None
    replay_number: int | None = None
    with_model: bool = False
    partition_key: str | None = None
    accepted: str | None = None

    @property
    def key(self) -> str:
        """What decides the event's partition."""
        return self.partition_key or self.default_key

    @property
    def default_key(self) -> str:
        """The key where no `partition_key` is given: what the data say, or else the subject."""
        return self.data.partition_key or self.subject

    @property
    def was_put_back(self) -> bool:
        """Whether it comes from the dead letters: later events may have taken effect since."""
        return self.only_group is not None and self.replay_id is None

    @property
    def type(self) -> str:
        """The event's type, e.g. `lead-created`."""
        return self.data.type

    @property
    def may_call_model(self) -> bool:
        """Whether handling the event may cost a call of a language model."""
        return self.replay_id is None or self.with_model
