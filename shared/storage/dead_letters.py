"""Dead letters in PostgreSQL: one per consumer group and event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from shared.events.dead_letter import DeadLetter, short_key
from shared.storage.pool import Database

# Events are much smaller.
MOST_BYTES = 16 << 20
MOST_ATTEMPTS = 2**31 - 1

_ADD = """
    INSERT INTO leads.dead_letter (
        consumer_group, event_id, stream, entry_id, type, reason, error, attempts, fields
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb)
    ON CONFLICT (consumer_group, event_id) DO UPDATE SET
        entry_id = excluded.entry_id, reason = excluded.reason, error = excluded.error,
        attempts = excluded.attempts, fields = excluded.fields, dead_at = clock_timestamp()
"""

_PAGE = """
    SELECT id, consumer_group, event_id, stream, entry_id, type, reason, error, attempts,
           fields::text, dead_at
    FROM leads.selected_dead_letters($1, $2, $3, $4, $5)
    WHERE $6::bigint IS NULL OR id < $6
    ORDER BY id DESC LIMIT $7
"""
_OLDEST = """
    SELECT id, consumer_group, event_id, stream, entry_id, type, reason, error, attempts,
           fields::text, dead_at
    FROM leads.selected_dead_letters($1, $2, $3, $4, $5)
    WHERE id > $6 ORDER BY id LIMIT $7
"""
_COUNTS = """
    SELECT consumer_group, type, reason, count(*), min(dead_at) AS first, max(dead_at) AS last
    FROM leads.selected_dead_letters($1, $2, $3, $4, $5)
    GROUP BY consumer_group, type, reason ORDER BY count(*) DESC, reason
"""
# A letter that was replaced since it was read is another one: the event was parked again.
_REMOVE = """
    DELETE FROM leads.dead_letter
    USING unnest($1::bigint[], $2::timestamptz[]) AS read (id, dead_at)
    WHERE dead_letter.id = read.id AND dead_letter.dead_at = read.dead_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterSelection:
    """The dead letters that meet every condition given; none given means all."""

    ids: tuple[int, ...] = ()
    reason: str | None = None
    group: str | None = None
    type: str | None = None
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """A dead letter, its number, and when it was parked last."""

    id: int
    dead_at: datetime
    letter: DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterCount:
    """How many letters of a kind there are, and when they were parked."""

    consumer_group: str
    type: str
    reason: str
    count: int
    first: datetime
    last: datetime


class DeadLetterRepository:
    """Keeps dead letters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_letter(self, letter: DeadLetter) -> None:
        """Keep a letter; the same group's earlier one for the event is replaced."""
        texts = (
            letter.group,
            short_key(letter.event_id),
            letter.stream,
            letter.entry_id,
            letter.type,
            letter.reason,
            letter.error,
        )
        # A transaction, so that it is fenced where the event is of a partition.
        async with self._database.transaction() as connection:
            await connection.execute(
                _ADD,
                *(_storable(text) for text in texts),
                min(letter.attempts, MOST_ATTEMPTS),
                orjson.dumps(_storable_fields(letter.fields)).decode(),
            )

    async def page(
        self, selection: LetterSelection, *, limit: int, before: int | None = None
    ) -> list[KeptLetter]:
        """Return letters, newest number first; the next page's are `before` the last one's."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PAGE, *_to_parameters(selection), before, limit)
        return [_to_letter(row) for row in rows]

    async def oldest(
        self, selection: LetterSelection, *, limit: int, after: int
    ) -> list[KeptLetter]:
        """Return letters after a number, in the order in which their events were parked first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_OLDEST, *_to_parameters(selection), after, limit)
        return [_to_letter(row) for row in rows]

    async def counts(self, selection: LetterSelection) -> list[LetterCount]:
        """Return how many letters there are of each group, type and reason, most first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_COUNTS, *_to_parameters(selection))
        return [LetterCount(**row) for row in rows]

    async def remove_letters(self, letters: Sequence[KeptLetter]) -> int:
        """Remove letters, but none that has been replaced since it was read; returns how many."""
        ids = [kept.id for kept in letters]
        times = [kept.dead_at for kept in letters]
        async with self._database.connection() as connection:
            status = await connection.execute(_REMOVE, ids, times)
        return int(status.rpartition(" ")[2])


def _to_parameters(selection: LetterSelection) -> tuple[Any, ...]:
    """Return the parameters of `leads.selected_dead_letters`."""
    return (
        list(selection.ids) or None,
        selection.reason,
        selection.group,
        selection.type,
        selection.event_id,
    )


def _to_letter(row: asyncpg.Record) -> KeptLetter:
    letter = DeadLetter(
        group=row["consumer_group"],
        event_id=row["event_id"],
        stream=row["stream"],
        entry_id=row["entry_id"],
        type=row["type"],
        reason=row["reason"],
        error=row["error"],
        attempts=row["attempts"],
        fields=orjson.loads(row["fields"]),
    )
    return KeptLetter(row["id"], row["dead_at"], letter)


# The last resort keeps anything, if not as it was.


def _storable(text: str) -> str:
    # PostgreSQL's text holds every character but this one, and none that is no character.
    return text.encode(errors="backslashreplace").decode().replace("\x00", "\\x00")


def _storable_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """Return fields that fit into a row: what is beyond `MOST_BYTES` together is cut off."""
    kept: dict[str, str] = {}
    room = MOST_BYTES
    for name, value in fields.items():
        if room < len(name):
            break
        kept[_storable(name)] = _storable(value if len(value) <= room else value[:room])
        room -= len(name) + len(value)
    return kept
