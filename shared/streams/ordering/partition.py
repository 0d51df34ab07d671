"""A partition that this process reads: what has been read, what of it is done, what is held.

Held are keys that failed for now: the first entry waits for its time, the others for the first.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from shared.streams.codec import Entry, EntryId, entry_id
from shared.streams.ordering.ownership import Owned

# So much may be held back in one partition; beyond it nothing more is read there.
MOST_ENTRIES = 1_000
MOST_BYTES = 16 << 20
# So many replayed entries may wait in one partition while what comes behind them is looked for.
MOST_REPLAYED = 1_000


@dataclass(frozen=True, slots=True)
class Held:
    """An entry and when it may be tried, by this process's monotonic clock."""

    entry: Entry
    due: float


class HeldKeys:
    """What is held in one partition, by key, in the order of the entries."""

    def __init__(self, *, most_entries: int = MOST_ENTRIES) -> None:
        self._most_entries = most_entries
        self._keys: dict[str, deque[Held]] = {}
        self._ids: set[str] = set()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    @property
    def is_full(self) -> bool:
        """Whether no more may be held."""
        return len(self._ids) >= self._most_entries or self._bytes >= MOST_BYTES

    def add(self, entry: Entry, wait: timedelta) -> None:
        """Hold an entry behind those of its key."""
        held = Held(entry, time.monotonic() + wait.total_seconds())
        self._keys.setdefault(entry.key, deque()).append(held)
        self._ids.add(entry.id)
        self._bytes += _size(entry)

    def postpone(self, entry: Entry, wait: timedelta) -> None:
        """Have the first entry of a key wait again, as this attempt."""
        self._keys[entry.key][0] = Held(entry, time.monotonic() + wait.total_seconds())

    def remove_first(self, key: str) -> None:
        """Remove an entry that has come to its end; the next of its key is due at once."""
        entries = self._keys[key]
        ended = entries.popleft().entry
        self._ids.discard(ended.id)
        self._bytes -= _size(ended)
        if not entries:
            del self._keys[key]

    def due(self) -> Iterator[Entry]:
        """Yield the first entry of each key whose time has come."""
        now = time.monotonic()
        for entries in list(self._keys.values()):
            if entries[0].due <= now:
                yield entries[0].entry

    @property
    def next_due(self) -> float | None:
        """When the next entry may be tried."""
        return min((entries[0].due for entries in self._keys.values()), default=None)

    def is_waiting(self, id_: str) -> bool:
        """Return whether this entry is held."""
        return id_ in self._ids


def _size(entry: Entry) -> int:
    return sum(len(name) + len(value) for name, value in entry.fields.items())


class OwnPartition:
    """The reader's view of a partition; `position` is the entry up to which all is done or held.

    Entries up to `suspect_until` were begun by an owner before, which may have died of them.
    """

    def __init__(
        self, owned: Owned, *, suspect_until: EntryId = (0, 0), most_held: int = MOST_ENTRIES
    ) -> None:
        self.owned = owned
        self.claim = owned.claim
        self.name = owned.name
        self.position = owned.position
        self.saved = owned.position
        self.shown: str | None = None
        self.shown_held: int | None = None
        self.cursor = owned.position
        self.suspect_until = suspect_until
        self.crashed: set[str] = set()
        self.held = HeldKeys(most_entries=most_held)
        self._read: deque[Entry] = deque()
        self._done: set[str] = set()
        self._held_before: set[str] = set()
        self._parked: set[str] = set()

    def add(self, entries: Iterable[Entry]) -> None:
        """Take what was read after the cursor."""
        for entry in entries:
            # Where it was accepted: one that was put back knows.
            fields = cast("dict[bytes, bytes]", entry.fields)
            fields.setdefault(b"accepted", accepted_at(self.claim.layout, entry.id).encode())
            self._read.append(entry)
            self.cursor = entry.id

    def go_back(self, position: str) -> None:
        """Read again what came after a position: the stream is another one than it was."""
        self._read.clear()
        self._done.clear()
        self.position = self.cursor = position

    @property
    def waiting(self) -> Iterator[Entry]:
        """What was read and is not done, in order."""
        return (entry for entry in self._read if entry.id not in self._done)

    @property
    def urgent(self) -> Iterator[Entry]:
        """What may go before replayed entries: all others whose key none of these has."""
        if all(entry.is_replayed for entry in self.waiting):
            return  # nearly always, and asked often
        behind: set[str] = set()
        for entry in self.waiting:
            if entry.is_replayed:
                behind.add(entry.key)
            elif not behind or entry.key not in behind:
                yield entry

    @property
    def is_behind(self) -> bool:
        """Whether others know less than this process of how far it has come."""
        is_shown = self.shown == self.position and self.shown_held == len(self.held)
        return self.saved != self.position or not is_shown or bool(self.passed)

    @property
    def passed(self) -> list[str]:
        """What is parked and before the position, as all know it: no owner reads it again."""
        if self.saved != self.position or self.shown != self.position:
            return []
        position = entry_id(self.position)
        return [id_ for id_ in self._parked if entry_id(id_) <= position]

    @property
    def has_suspects(self) -> bool:
        """Whether there may be entries of which the last owner died."""
        return entry_id(self.position) < self.suspect_until

    @property
    def has_room(self) -> bool:
        """Whether more may be read: behind replayed entries there may be others."""
        if self.held.is_full or len(self._read) > MOST_REPLAYED:
            return False
        return all(entry.is_replayed for entry in self.waiting)

    def is_suspect(self, entry: Entry) -> bool:
        """Return whether the last owner may have died of this entry."""
        return entry_id(entry.id) <= self.suspect_until

    def done(self, entry: Entry) -> None:
        """Note that an entry has come to its end, or is held; moves the position."""
        self._done.add(entry.id)
        while self._read and self._read[0].id in self._done:
            self.position = self._read.popleft().id
            self._done.remove(self.position)

    def inherit(self, entry: Entry, wait: timedelta) -> None:
        """Hold what the last owner held, which may not have saved that it was read."""
        self.held.add(entry, wait)
        self._held_before.add(entry.id)

    def note_parked(self, id_: str) -> None:
        """Know again an entry that is parked, wherever reading begins anew."""
        self._parked.add(id_)

    @property
    def has_parked(self) -> bool:
        """Whether it knows entries that are parked, and may be read again."""
        return bool(self._parked)

    def forget_parked(self, ids: Iterable[str]) -> None:
        """Forget parked entries that are not to be read again."""
        self._parked.difference_update(ids)

    def was_seen_to(self, entry: Entry) -> bool:
        """Return whether an entry that was read is held or parked already, or was held before."""
        id_ = entry.id
        return id_ in self._held_before or id_ in self._parked or self.held.is_waiting(id_)

    def hold(self, entry: Entry, wait: timedelta) -> None:
        """Hold an entry that has just been read, and be done with it here."""
        self.held.add(entry, wait)
        self.done(entry)


def accepted_at(layout: int, id_: str) -> str:
    """Return where an entry was accepted, as a text that sorts."""
    time, _, sequence = id_.partition("-")
    return f"{layout:04}.{time.zfill(15)}-{sequence.zfill(10)}"
