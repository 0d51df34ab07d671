"""Transactions that lose a race for a key."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from shared.domain.errors import TransientError

TRIES = 3

Result = TypeVar("Result")


async def outlasting_races(transaction: Callable[[], Awaitable[Result]]) -> Result:
    """Repeat a transaction that another one was faster than: it then sees what the other did.

    Raises `TransientError` when that keeps happening.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(asyncpg.UniqueViolationError):
            return await transaction()
    try:
        return await transaction()
    except asyncpg.UniqueViolationError as error:
        raise TransientError(f"PostgreSQL: {error}") from error
