"""The log of what operators did by hand."""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from shared.storage.pool import Database

_BEGIN = """
    INSERT INTO leads.admin_action (actor, action, detail) VALUES ($1, $2, $3::jsonb)
    RETURNING id
"""
_END = "UPDATE leads.admin_action SET affected = $2 WHERE id = $1"
_LATEST = """
    SELECT begun_at, actor, action, affected, detail::text FROM leads.admin_action
    ORDER BY begun_at DESC, id DESC LIMIT $1
"""
# One that began and did not end has no number.
_LAST_ENDED = """
    SELECT max(begun_at) FROM leads.admin_action WHERE action = $1 AND affected IS NOT NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAction:
    """Who did what and when; `affected` is None unless the action came to its end."""

    begun_at: datetime
    actor: str
    action: str
    affected: int | None
    detail: Mapping[str, Any]


@dataclass(slots=True)
class Recording:
    """An action under way: the caller sets how many things it affected."""

    affected: int = 0


class AdminLog:
    """Writes an action down before it begins: while PostgreSQL is down, nothing is done."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.asynccontextmanager
    async def recording(
        self, action: str, *, actor: str, detail: Mapping[str, Any]
    ) -> AsyncGenerator[Recording]:
        """Record an action before it begins, and how many it affected when it has ended."""
        text = orjson.dumps(detail, default=str).decode()
        async with self._database.connection() as connection:
            action_id = await connection.fetchval(_BEGIN, actor, action, text)
        recording = Recording()
        yield recording
        async with self._database.connection() as connection:
            await connection.execute(_END, action_id, recording.affected)

    async def latest(self, *, limit: int) -> list[AdminAction]:
        """Return the last actions, newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_LATEST, limit)
        return [AdminAction(**{**row, "detail": orjson.loads(row["detail"])}) for row in rows]

    async def last_ended(self, action: str) -> datetime | None:
        """Return when the last such action began that came to its end; None without any."""
        async with self._database.connection() as connection:
            begun_at: datetime | None = await connection.fetchval(_LAST_ENDED, action)
        return begun_at
