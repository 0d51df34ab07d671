"""Putting an event back into its stream for one consumer group, for nobody's answer."""

from redis.typing import EncodableT, FieldT

from shared.events.selection import EventFields

# Whoever asked at first has gone, and what was tried before does not count.
_ADDRESSING = frozenset(
    {b"replyto", b"expires", b"attempt", b"onlygroup", b"replayid", b"withmodel"}
)


def readdressed(
    fields: EventFields, *, group: str, replay_id: str | None = None, with_model: bool = False
) -> dict[FieldT, EncodableT]:
    """Return the fields of a new entry with the same event, for this group's first attempt."""
    entry: dict[FieldT, EncodableT] = {
        name: value for name, value in fields.items() if name not in _ADDRESSING
    }
    entry |= {b"attempt": b"1", b"onlygroup": group.encode()}
    if replay_id is not None:
        entry[b"replayid"] = replay_id.encode()
    if with_model:
        entry[b"withmodel"] = b"true"
    return entry
