"""Stream entries and their ids as redis-py returns them, in types of our own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

Fields = Mapping[bytes, bytes]

EntryId: TypeAlias = tuple[int, int]
"""An entry's id as milliseconds and sequence: a form that sorts."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream: its id (`milliseconds-sequence`) and its fields."""

    id: str
    fields: Fields

    @property
    def event_id(self) -> str:
        """The id of the event in it, or the entry's own when it holds none."""
        return self.fields.get(b"id", self.id.encode()).decode(errors="backslashreplace")

    @property
    def attempt(self) -> int:
        """Which attempt at handling it this is, from 1."""
        attempt = self.fields.get(b"attempt", b"")
        return int(attempt) if attempt.isdigit() else 1

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
