"""Idle connections of a Redis pool."""

from typing import Any

from tests.support.eventually import eventually


async def until_dead(pool: Any) -> None:
    """Wait until this side has heard that all its idle connections ended."""

    async def all_dead() -> bool:
        return all(
            one._reader.at_eof() or one._writer.is_closing() for one in pool._available_connections
        )

    await eventually(all_dead)
