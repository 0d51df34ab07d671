"""Who owns which partition of an ordered stream: the one authority on it, and its fence.

Every transaction that applies events of partitions begins by moving their rows: so it ends before
another process can take them over, and one whose partition was taken over changes nothing.
"""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson

from shared.events.partitions import Claim, Division, HeldEntry, Layout, Member, Partition, Survey
from shared.storage.pool import Database, transaction_begin

# A process that is stopped within a transaction must not keep its partitions for ever.
STUCK = timedelta(seconds=5)
_END_WHEN_STUCK = (
    f"SET LOCAL idle_in_transaction_session_timeout = {int(STUCK.total_seconds() * 1000)}"
)

MOST_IN_COLUMN = 300

_DIVISION = """
    SELECT number, partitions, opened_at IS NOT NULL AS is_open FROM leads.layout
    WHERE stream = $1 ORDER BY number
"""
# All in one, since every syncer asks again and again. What it shows is from before its own beat.
_SURVEY = f"""
    SELECT (SELECT json_agg(m) FROM (
               SELECT token, name, host, process, beat FROM leads.member
           ) AS m) AS members,
           (SELECT json_agg(p) FROM (
               SELECT layout, number, owner, epoch, position FROM leads.partition
               WHERE stream = $1 ORDER BY layout, number
           ) AS p) AS partitions,
           (SELECT json_agg(l) FROM ({_DIVISION}) AS l) AS layouts
"""  # noqa: S608 (both parts are constants)
_BEAT_AND_SURVEY = f"""
    WITH beat AS (
        INSERT INTO leads.member (token, name, host, process) VALUES ($2, $3, $4, $5)
        ON CONFLICT (token) DO UPDATE SET beat = member.beat + 1
    )
    {_SURVEY}
"""  # noqa: S608 (both parts are constants)
_CLAIM = """
    UPDATE leads.partition SET owner = $4, epoch = $5
    WHERE stream = $1 AND layout = $2 AND number = $3
      AND owner IS NOT DISTINCT FROM $6 AND epoch = $7
    RETURNING position
"""
_WAIT_LITTLE = "SET LOCAL lock_timeout = '500ms'"
_RELEASE = """
    UPDATE leads.partition SET owner = NULL
    WHERE stream = $1 AND layout = $2 AND number = $3 AND owner = $4 AND epoch = $5
"""
_LEAVE = "DELETE FROM leads.member WHERE token = $1"
_BURY = "DELETE FROM leads.member WHERE token = $1 AND beat = $2"
_HOLD = """
    INSERT INTO leads.held_entry (
        stream, layout, number, entry_id, key, subject, attempt, due_at, fields
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + $8::interval, $9)
    ON CONFLICT (stream, layout, number, entry_id)
    DO UPDATE SET attempt = EXCLUDED.attempt, due_at = EXCLUDED.due_at
"""
_HELD = """
    SELECT entry_id, key, attempt, due_at - clock_timestamp() AS wait, fields
    FROM leads.held_entry WHERE stream = $1 AND layout = $2 AND number = $3
"""
_LET_GO = """
    DELETE FROM leads.held_entry
    WHERE stream = $1 AND layout = $2 AND number = $3 AND entry_id = ANY($4::text[])
"""
_COUNT_HELD = """
    SELECT layout, number, count(*) FROM leads.held_entry WHERE stream = $1 AND attempt > 0
    GROUP BY layout, number
"""
_DIVIDE = """
    INSERT INTO leads.layout (stream, number, partitions, opened_at)
    VALUES ($1, $2, $3, CASE WHEN $4 THEN clock_timestamp() END)
    ON CONFLICT DO NOTHING
"""
_ADD_PARTITIONS = """
    INSERT INTO leads.partition (stream, layout, number)
    SELECT stream, number, generate_series(0, partitions - 1) FROM leads.layout WHERE stream = $1
    ON CONFLICT DO NOTHING
"""
_OPEN = """
    UPDATE leads.layout SET opened_at = coalesce(opened_at, clock_timestamp())
    WHERE stream = $1 AND number = $2
"""


class PartitionRepository:
    """Members, partitions and what is held in them. Raises `UnavailableError`, `TransientError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # How a stream is divided.

    async def division(self, stream: str) -> Division | None:
        """Return how a stream is divided; None when it never was."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_DIVISION, stream)
        return _division(stream, [dict(row) for row in rows])

    async def divide(
        self, stream: str, *, partitions: int, is_open: bool, number: int = 1
    ) -> Division:
        """Add a layout unless there is one of this number; returns how the stream is divided."""
        async with self._database.transaction() as connection:
            await connection.execute(_DIVIDE, stream, number, partitions, is_open)
            await connection.execute(_ADD_PARTITIONS, stream)
        division = await self.division(stream)
        assert division is not None  # noqa: S101 (just made)
        return division

    async def open_layout(self, layout: Layout) -> None:
        """Let events be published to a layout."""
        async with self._database.connection() as connection:
            await connection.execute(_OPEN, layout.stream, layout.number)

    # Who shares the partitions.

    async def survey(self, stream: str, *, beat: Member | None = None) -> Survey:
        """Return all members, how a stream is divided, and the partitions of all its layouts.

        With `beat` that member shows that it is alive, which makes it one.
        """
        member = () if beat is None else (beat.token, beat.name, beat.host, beat.process)
        async with self._database.connection() as connection:
            [row] = await connection.fetch(_BEAT_AND_SURVEY if member else _SURVEY, stream, *member)
        members, partitions, layouts = (
            cast("list[dict[str, Any]]", orjson.loads(column or "[]"))
            for column in cast("tuple[str | None, ...]", tuple(row))
        )
        return Survey(
            [Member(**_with_uuid(one, "token")) for one in members],
            [Partition(**_with_uuid(one, "owner")) for one in partitions],
            _division(stream, layouts),
        )

    async def bury(self, member: Member) -> None:
        """Remove a member, unless it has shown a sign of life since it was seen."""
        async with self._database.connection() as connection:
            await connection.execute(_BURY, member.token, member.beat)

    async def leave(self, member: Member) -> None:
        """Remove a member that ends."""
        async with self._database.connection() as connection:
            await connection.execute(_LEAVE, member.token)

    async def claim(self, wanted: Claim, seen: Partition) -> str | None:
        """Take a partition as it was seen; returns its position, None when another was faster.

        Waits for the transaction of its last owner, and raises `TransientError` when that takes
        long.
        """
        async with self._database.transaction(setting=_WAIT_LITTLE) as connection:
            position: str | None = await connection.fetchval(
                _CLAIM,
                *(*_key(wanted), wanted.owner, wanted.epoch),
                *(seen.owner, seen.epoch),
            )
        return position

    async def release(self, claim: Claim) -> None:
        """Give a partition up."""
        async with self._database.connection() as connection:
            await connection.execute(_RELEASE, *_key(claim), claim.owner, claim.epoch)

    @contextlib.contextmanager
    def fenced(self, positions: Sequence[tuple[Claim, str]]) -> Generator[None]:
        """Have transactions within fail with `FencedError` unless all these claims hold.

        With them the positions move, all of one owner, stream and layout.
        """
        token = transaction_begin.set(_begin(positions))
        try:
            yield
        finally:
            transaction_begin.reset(token)

    async def move(self, positions: Sequence[tuple[Claim, str]]) -> None:
        """Move positions and nothing else. What a crash takes back is followed up once more."""
        begin = _begin(positions, and_then="SET LOCAL synchronous_commit = off;")
        async with self._database.connection() as connection:
            await connection.execute(f"{begin}; COMMIT")

    # What is held in a partition.

    async def held(self, claim: Claim) -> list[HeldEntry]:
        """Return what is held in a partition."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_HELD, *_key(claim))
        return [_held(row) for row in rows]

    async def hold(self, claim: Claim, entries: Sequence[HeldEntry]) -> None:
        """Keep entries, or keep them for longer. To be called within `fenced`."""
        async with self._database.transaction() as connection:
            await connection.executemany(_HOLD, [_held_row(claim, entry) for entry in entries])

    async def let_go(self, claim: Claim, entry_ids: Sequence[str]) -> None:
        """Drop entries that have come to their end."""
        async with self._database.connection() as connection:
            await connection.execute(_LET_GO, *_key(claim), entry_ids)

    async def count_held(self, stream: str) -> dict[tuple[int, int], int]:
        """Return how many entries are held, by layout and partition."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_COUNT_HELD, stream)
        return {(row["layout"], row["number"]): row["count"] for row in rows}


@contextlib.contextmanager
def unfenced() -> Generator[None]:
    """Have transactions within end when their process is stopped, though they move no position.

    For events that are in no partition: none with their keys may wait in one.
    """
    token = transaction_begin.set(f"BEGIN; {_END_WHEN_STUCK}")
    try:
        yield
    finally:
        transaction_begin.reset(token)


def _with_uuid(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**fields, name: fields[name] and UUID(fields[name])}


def _division(stream: str, rows: Sequence[Mapping[str, Any]]) -> Division | None:
    if not rows:
        return None
    layouts = [Layout(stream, row["number"], row["partitions"]) for row in rows]
    return Division(layouts, rows[-1]["is_open"])


def _key(claim: Claim) -> tuple[str, int, int]:
    return claim.stream, claim.layout, claim.number


def _begin(positions: Sequence[tuple[Claim, str]], *, and_then: str = "") -> str:
    # All values are ours: numbers, UUIDs, entry ids and the name of a stream. Epochs are a setting,
    # so that the fence of a schema from before 0020 can be called too; it does not look at them.
    first = positions[0][0]
    numbers = ",".join(str(claim.number) for claim, _ in positions)
    epochs = ",".join(str(claim.epoch) for claim, _ in positions)
    ids = ",".join(position for _, position in positions)
    return (
        f"BEGIN; {_END_WHEN_STUCK}; SET LOCAL leads.epochs = '{{{epochs}}}'; {and_then} "
        f"SELECT leads.fence('{first.stream}', {first.layout}, '{first.owner}', "
        f"'{{{numbers}}}', '{{{ids}}}')"
    )


def _held(row: asyncpg.Record) -> HeldEntry:
    flat: list[str] = orjson.loads(row["fields"])
    fields = {
        name.encode(errors="surrogateescape"): value.encode(errors="surrogateescape")
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }
    return HeldEntry(
        entry_id=row["entry_id"],
        key=row["key"],
        attempt=row["attempt"],
        wait=row["wait"],
        fields=fields,
    )


def _held_row(claim: Claim, entry: HeldEntry) -> tuple[object, ...]:
    flat = [part.decode() for field in entry.fields.items() for part in field]
    subject = entry.fields.get(b"subject", b"").decode()
    return (
        *_key(claim),
        *(entry.entry_id, _column(entry.key), _column(subject) or None),
        *(entry.attempt, entry.wait, orjson.dumps(flat)),
    )


def _column(text: str) -> str:
    """Return a text as far as a column and its index take it; all of it is in the fields."""
    return text.replace("\x00", "")[:MOST_IN_COLUMN]
