"""Stream entries as redis-py returns them, and events to entries and back.

An event is an entry with the attributes of CloudEvents as flat fields.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, TypeAlias, cast
from uuid import UUID

import orjson
from pydantic import ValidationError
from redis.typing import EncodableT, FieldT

from shared.domain.errors import PermanentError
from shared.domain.values import value
from shared.events.catalog import BY_TYPE
from shared.events.data import LeadChanged
from shared.events.envelope import Event, EventData, is_sane_id, now
from shared.events.lead_fields import AS_STORED
from shared.events.replay import EventFields

Fields = Mapping[bytes, bytes]

# An event has less than half as many; a script can put only some thousand into a stream.
MOST_FIELDS = 100
MOST_DIGITS = 9

EntryId: TypeAlias = tuple[int, int]
"""An entry's id as milliseconds and sequence: a form that sorts."""

# Redis counts both in 64 bits without a sign.
LARGEST_PART = 2**64 - 1
_match_entry_id = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?").fullmatch


@value()
class Entry:
    """One entry of a stream: its id (`milliseconds-sequence`) and its fields."""

    id: str
    fields: Fields

    @property
    def event_id(self) -> str:
        """The id of the event in it, or the entry's own when it holds none."""
        return self.fields.get(b"id", self.id.encode()).decode(errors="backslashreplace")

    @property
    def key(self) -> str:
        """What entries share that must keep their order: an event's partition key."""
        key = self.fields.get(b"partitionkey", self.id.encode())
        return key.decode(errors="backslashreplace")

    @property
    def is_replayed(self) -> bool:
        """Whether a replay has put it back: nobody waits for it."""
        return b"replayid" in self.fields

    @property
    def attempt(self) -> int:
        """Which attempt at handling it this is, from 1."""
        return bounded_number(self.fields.get(b"attempt", b"").decode(errors="replace")) or 1

    @property
    def is_text(self) -> bool:
        """Whether all of it is UTF-8, as every event is."""
        try:
            for name, value in self.fields.items():
                name.decode()
                value.decode()
        except UnicodeDecodeError:
            return False
        return True


def bounded_number(text: str) -> int | None:
    """Return a whole number that every server can hold; None for what is none.

    Attempts are an integer in PostgreSQL, and an event's number in a replay a bit in Redis.
    """
    is_number = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if is_number else None


def entries_of(reply: Any) -> list[Entry]:
    """Return the entries of an XRANGE or XCLAIM reply, without the deleted: they have no fields."""
    return [
        Entry(entry_id.decode(), fields)
        for entry_id, fields in cast("list[tuple[bytes, Fields | None]]", reply or [])
        if fields
    ]


def read_entries(reply: Any) -> list[Entry]:
    """Return the entries of an XREAD or XREADGROUP reply that asked for one stream."""
    streams = cast("Mapping[bytes, Any]", reply or {})
    return [entry for entries in streams.values() for entry in entries_of(entries)]


def entry_id(text: bytes | str) -> EntryId:
    """Return an entry's id in a form that sorts."""
    decoded = text.decode() if isinstance(text, bytes) else text
    time, _, sequence = decoded.partition("-")
    return int(time), int(sequence or 0)


def parse_entry_id(text: str) -> str | None:
    """Return an entry's id in full, or None for what cannot be one."""
    match = _match_entry_id(text)
    if match is None:
        return None
    parts = int(match[1]), int(match[2] or "0")
    return None if max(parts) > LARGEST_PART else "{}-{}".format(*parts)


_OPTIONAL = {
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "tracelink": "tracelink",
    "replyto": "reply_to",
    "onlygroup": "only_group",
    "replayid": "replay_id",
    "accepted": "accepted",
}


def encode(event: Event) -> dict[FieldT, EncodableT]:
    """Return the entry's fields."""
    fields: dict[FieldT, EncodableT] = {
        "id": str(event.id),
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time.isoformat(timespec="milliseconds"),
        "specversion": "1.0",
        "dataschema": event.data.schema_uri(),
        "datacontenttype": "application/json",
        "partitionkey": event.key,
        "correlationid": event.correlation_id,
        "attempt": str(event.attempt),
        "data": event.data.model_dump_json(),
    }
    for field, attribute in _OPTIONAL.items():
        value = getattr(event, attribute)
        if value is not None:
            fields[field] = value
    if event.expires is not None:
        fields["expires"] = event.expires.isoformat(timespec="milliseconds")
    if event.replay_number is not None:
        fields["replaynumber"] = str(event.replay_number)
    if event.with_model:
        fields["withmodel"] = "true"
    return fields


Change: TypeAlias = tuple[Event, UUID, int, str]
"""What an event did to a lead: the event, the lead's id, its version by then, the change."""

_OF_ALL_CHANGES: Mapping[FieldT, EncodableT] = {
    "type": LeadChanged.type,
    "specversion": "1.0",
    "dataschema": LeadChanged.schema_uri(),
    "datacontenttype": "application/json",
    "attempt": "1",
}
_NAME = LeadChanged.type.encode()
# The variant of a UUID, in the two upper bits of a digit: RFC 9562.
_VARIANT = {f"{digit:x}": f"{8 | digit & 3:x}" for digit in range(16)}


def encode_changes(changes: Sequence[Change], *, source: str) -> list[dict[FieldT, EncodableT]]:
    """Return the entries of lead-changed, as `encode` would: without an event made of each.

    An entry has the same id however often it is made: UUIDv5 of its cause's and the type.
    """
    time = now().isoformat(timespec="milliseconds")
    common = {**_OF_ALL_CHANGES, "source": source, "time": time}
    return [common | _changed(change) for change in changes]


def _changed(change: Change) -> dict[FieldT, EncodableT]:
    cause, id_, version, kind = change
    lead_id = str(id_)
    digest = sha1(cause.id.bytes + _NAME, usedforsecurity=False).hexdigest()
    later = f"{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
    fields: dict[FieldT, EncodableT] = {
        "id": f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{later}",
        "subject": lead_id,
        "partitionkey": lead_id,
        "correlationid": cause.correlation_id,
        "data": f'{{"leadId":"{lead_id}","leadVersion":{version},"change":"{kind}"}}',
    }
    if cause.traceparent is not None:
        fields["traceparent"] = cause.traceparent
    return fields


_is_traced = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-01").fullmatch
# Without a group that repeats: that would take a multiple of the time.
_is_uuid = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


def event_ids(fields: Mapping[FieldT, EncodableT] | Fields) -> dict[str, str]:
    """Return what log lines say of an entry: ids that are ids, as other text may be anything.

    An event that no request led to is the first of what has its id as correlation id.
    """
    type_ = _text(fields, "type")
    ids = {"type": type_} if type_ in BY_TYPE else {}
    for name, field in (("event_id", "id"), ("lead_id", "subject")):
        if _is_uuid(text := _text(fields, field)):
            ids[name] = text
    correlation_id = _text(fields, "correlationid")
    if is_sane_id(correlation_id):
        ids["correlation_id"] = correlation_id
    elif "event_id" in ids:
        ids["correlation_id"] = ids["event_id"]
    if trace_id := traced_in(_text(fields, "traceparent")):
        ids["trace"] = trace_id
    return ids


def traced_in(traceparent: str) -> str | None:
    """Return the id of the trace that an entry's event is in, if that is kept."""
    match = _is_traced(traceparent)
    return None if match is None else match[1]


def _text(fields: Mapping[Any, Any], name: str) -> str:
    value: str | None = fields.get(name)
    if value is None:
        value = cast("bytes", fields.get(name.encode(), b"")).decode(errors="replace")
    return value


def flatten(fields: Mapping[FieldT, EncodableT]) -> bytes:
    """Return fields as a JSON array of names and values, for scripts that add entries."""
    return orjson.dumps([part for field in fields.items() for part in field])


def unflatten(flat: bytes) -> Fields:
    """Return the fields that `flatten` was given."""
    parts = [part.encode() for part in orjson.loads(flat)]
    return dict(zip(parts[::2], parts[1::2], strict=True))


# The client that asked at first has gone, and earlier attempts do not count.
_ADDRESSING = frozenset(
    {
        b"replyto",
        b"expires",
        b"attempt",
        b"onlygroup",
        b"replayid",
        b"replaynumber",
        b"withmodel",
    }
)


def for_group(
    fields: EventFields,
    *,
    group: str,
    replay_id: str | None = None,
    number: int = 0,
    with_model: bool = False,
) -> dict[FieldT, EncodableT]:
    """Return the fields of a new entry with the same event, for this group's first attempt.

    `number` is which of a replay's events it is, from 0.
    """
    entry: dict[FieldT, EncodableT] = {
        name: value for name, value in fields.items() if name not in _ADDRESSING
    }
    entry |= {b"attempt": b"1", b"onlygroup": group.encode()}
    # It begins a trace of its own, which is linked to the one before.
    if (before := entry.pop(b"traceparent", None)) is not None:
        entry[b"tracelink"] = before
    if replay_id is not None:
        entry |= {b"replayid": replay_id.encode(), b"replaynumber": str(number).encode()}
    if with_model:
        entry[b"withmodel"] = b"true"
    return entry


def decode(fields: Fields) -> Event:
    """Return the event of an entry.

    Raises `PermanentError` with code `undecodable`, `unknown-type`, `unknown-version` or
    `invalid-data`: an entry that this process must park, since a newer one may know it.
    """
    try:
        if len(fields) > MOST_FIELDS:
            raise ValueError("too many fields")  # noqa: TRY301 (as any other value that is wrong)
        text = {name.decode(): value.decode() for name, value in fields.items()}
        return _event(text, _data(text))
    except (KeyError, ValueError) as error:
        # A missing field is named; other errors quote values, which may be personal data.
        reason = error if isinstance(error, KeyError) else type(error).__name__
        raise PermanentError(f"Not an event: {reason}", code="undecodable") from error


def _event(text: Mapping[str, str], data: EventData) -> Event:
    optional = {name: text[field] for field, name in _OPTIONAL.items() if field in text}
    expires, key = text.get("expires"), text.get("partitionkey")
    number = text.get("replaynumber")
    event = Event(
        id=UUID(text["id"]),
        source=text["source"],
        subject=text["subject"],
        time=_time(text["time"]),
        correlation_id=text.get("correlationid", ""),
        expires=None if expires is None else _time(expires),
        attempt=_number(text.get("attempt", "1")),
        replay_number=None if number is None else _number(number),
        with_model=text.get("withmodel") == "true",
        data=data,
        **optional,
    )
    return event if key in {None, event.default_key} else replace(event, partition_key=key)


def _data(text: Mapping[str, str]) -> EventData:
    flow = BY_TYPE.get(text["type"])
    if flow is None:
        # Not quoted: what stands there may be anything, and goes into the log.
        raise PermanentError("This process does not know the event's type", code="unknown-type")
    version = int(text["dataschema"].rpartition(":")[2])
    if version > flow.event.version:
        raise PermanentError(
            f"{text['type']} version {version} is newer than {flow.event.version}, "
            "the newest this process knows",
            code="unknown-version",
        )
    try:
        return flow.event.model_validate_json(text["data"], context=AS_STORED)
    except ValidationError as error:
        # The input stays out of the message: it is personal data.
        problems = error.errors(include_input=False, include_url=False)
        fields = ", ".join(".".join(map(str, problem["loc"])) for problem in problems)
        raise PermanentError(f"Invalid {text['type']}: {fields}", code="invalid-data") from None


def _number(text: str) -> int:
    number = bounded_number(text)
    if number is None:
        raise ValueError("not a number")
    return number


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
