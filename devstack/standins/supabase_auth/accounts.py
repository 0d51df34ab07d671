"""The accounts, their sessions and refresh tokens, in one SQLite file.

Statements take microseconds on a file that only this process uses, so they run on the event loop.
"""

import json
import secrets
import sqlite3
import string
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from devstack.data_directory import OWNER_ONLY
from devstack.standins.supabase_auth.errors import AuthError, invalid

REFRESH_TOKEN_LENGTH = 12
_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    app_metadata TEXT NOT NULL,
    user_metadata TEXT NOT NULL,
    created_at TEXT NOT NULL,
    confirmed_at TEXT,
    last_sign_in_at TEXT
);
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS refresh_tokens (
    token TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    parent TEXT,
    revoked_at TEXT
);
CREATE TABLE IF NOT EXISTS bans (
    user_id TEXT PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    until TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_by_user ON sessions (user_id);
CREATE INDEX IF NOT EXISTS refresh_tokens_by_session ON refresh_tokens (session_id);
"""


@dataclass(frozen=True, slots=True)
class User:
    """One account; an unconfirmed one cannot log in."""

    id: str
    email: str
    password_hash: str
    app_metadata: dict[str, Any]
    user_metadata: dict[str, Any]
    created_at: str
    confirmed_at: str | None = None
    last_sign_in_at: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One log-in of a user, and the refresh token that now continues it."""

    id: str
    user: User
    created_at: str
    refresh_token: str


class Accounts:
    """The stand-in's users, sessions and refresh tokens."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=OWNER_ONLY)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;"
            + _SCHEMA
        )

    def close(self) -> None:
        self._database.close()

    def add(self, user: User) -> None:
        """Raises `sqlite3.IntegrityError` if the e-mail address is taken."""
        self._database.execute(
            "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                user.id,
                user.email,
                user.password_hash,
                json.dumps(user.app_metadata),
                json.dumps(user.user_metadata),
                user.created_at,
                user.confirmed_at,
                user.last_sign_in_at,
            ),
        )

    def by_email(self, email: str) -> User | None:
        return self._user("SELECT * FROM users WHERE email = ?", email)

    def by_id(self, user_id: str) -> User | None:
        return self._user("SELECT * FROM users WHERE id = ?", user_id)

    def page(self, *, number: int, size: int) -> list[User]:
        """The latest users first, with pages counted from 1."""
        rows = self._database.execute(
            "SELECT * FROM users ORDER BY created_at DESC, id LIMIT ? OFFSET ?",
            (size, (number - 1) * size),
        )
        return [_user(row) for row in rows]

    def count(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM users").fetchone()[0])

    def confirm(self, user_id: str) -> None:
        self._database.execute(
            "UPDATE users SET confirmed_at = coalesce(confirmed_at, ?) WHERE id = ?",
            (now(), user_id),
        )

    def change_password(self, user_id: str, password_hash: str) -> None:
        self._database.execute(
            "UPDATE users SET password_hash = ? WHERE id = ?", (password_hash, user_id)
        )

    def delete(self, user_id: str) -> None:
        """Deletes an account with its sessions."""
        self._database.execute("DELETE FROM users WHERE id = ?", (user_id,))

    def ban(self, user_id: str, duration: timedelta) -> None:
        """Bans an account from now on; no duration lifts the ban."""
        until = _text(datetime.now(UTC) + duration)
        self._database.execute("INSERT OR REPLACE INTO bans VALUES (?, ?)", (user_id, until))

    def is_banned(self, user_id: str) -> bool:
        found = self._database.execute(
            "SELECT 1 FROM bans WHERE user_id = ? AND until > ?", (user_id, now())
        )
        return found.fetchone() is not None

    def start_session(self, user_id: str) -> Session:
        session_id, moment = str(uuid.uuid4()), now()
        with self._transaction():
            self._database.execute(
                "UPDATE users SET last_sign_in_at = ? WHERE id = ?", (moment, user_id)
            )
            self._database.execute(
                "INSERT INTO sessions VALUES (?, ?, ?)", (session_id, user_id, moment)
            )
            token = self._issue(session_id, parent=None)
        return self._session(session_id, token)

    def has_session(self, session_id: str) -> bool:
        found = self._database.execute("SELECT 1 FROM sessions WHERE id = ?", (session_id,))
        return found.fetchone() is not None

    def refresh(self, token: str, *, reuse_interval: timedelta) -> Session:
        """Trades a refresh token for the next one.

        A token that was used before is still good if its successor was not used (the caller may
        never have seen the answer) or within the reuse interval. Later the whole session ends,
        as someone may have stolen the token.
        """
        if len(token) != REFRESH_TOKEN_LENGTH:
            raise invalid("Invalid Refresh Token: not of a known form")
        row = self._database.execute(
            "SELECT refresh_tokens.*, user_id FROM refresh_tokens "
            "JOIN sessions ON sessions.id = session_id WHERE token = ?",
            (token,),
        ).fetchone()
        if row is None:
            raise AuthError(
                400,
                "refresh_token_not_found",
                "Invalid Refresh Token: Refresh Token Not Found",
            )
        if self.is_banned(row["user_id"]):
            raise AuthError(400, "user_banned", "Invalid Refresh Token: User Banned")
        session_id = row["session_id"]
        if row["revoked_at"] is not None:
            if (successor := self._unused_successor(token)) is not None:
                return self._session(session_id, successor)
            if datetime.now(UTC) - datetime.fromisoformat(row["revoked_at"]) > reuse_interval:
                self._revoke_all(session_id)
                raise AuthError(
                    400, "refresh_token_already_used", "Invalid Refresh Token: Already Used"
                )
        with self._transaction():
            self._revoke_all(session_id)
            fresh = self._issue(session_id, parent=token)
        return self._session(session_id, fresh)

    def end_session(self, session_id: str) -> None:
        self._database.execute("DELETE FROM sessions WHERE id = ?", (session_id,))

    def end_sessions(self, user_id: str, *, but: str | None = None) -> None:
        self._database.execute(
            "DELETE FROM sessions WHERE user_id = ? AND id IS NOT ?", (user_id, but)
        )

    def _issue(self, session_id: str, *, parent: str | None) -> str:
        alphabet = string.ascii_lowercase + string.digits
        token = "".join(secrets.choice(alphabet) for _ in range(REFRESH_TOKEN_LENGTH))
        self._database.execute(
            "INSERT INTO refresh_tokens VALUES (?, ?, ?, NULL)", (token, session_id, parent)
        )
        return token

    def _revoke_all(self, session_id: str) -> None:
        self._database.execute(
            "UPDATE refresh_tokens SET revoked_at = ? WHERE session_id = ? AND revoked_at IS NULL",
            (now(), session_id),
        )

    def _unused_successor(self, token: str) -> str | None:
        row = self._database.execute(
            "SELECT token FROM refresh_tokens WHERE parent = ? AND revoked_at IS NULL", (token,)
        ).fetchone()
        return None if row is None else str(row["token"])

    def _session(self, session_id: str, token: str) -> Session:
        row = self._database.execute(
            "SELECT users.*, sessions.created_at AS session_created_at FROM sessions "
            "JOIN users ON users.id = sessions.user_id WHERE sessions.id = ?",
            (session_id,),
        ).fetchone()
        return Session(session_id, _user(row), row["session_created_at"], token)

    def _user(self, query: str, key: str) -> User | None:
        row = self._database.execute(query, (key,)).fetchone()
        return None if row is None else _user(row)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def now() -> str:
    return _text(datetime.now(UTC))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _user(row: sqlite3.Row) -> User:
    return User(
        id=row["id"],
        email=row["email"],
        password_hash=row["password_hash"],
        app_metadata=json.loads(row["app_metadata"]),
        user_metadata=json.loads(row["user_metadata"]),
        created_at=row["created_at"],
        confirmed_at=row["confirmed_at"],
        last_sign_in_at=row["last_sign_in_at"],
    )
