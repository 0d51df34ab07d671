"""Imports over HTTP: begun, and followed to their end."""

from datetime import timedelta
from typing import Any, cast

import httpx
from redis.asyncio import Redis

from tests.support.eventually import eventually

IMPORT = "/leads/import"
CSV = {"Content-Type": "text/csv"}
NDJSON = {"Content-Type": "application/x-ndjson"}


async def begin(
    client: httpx.AsyncClient, content: bytes, query: str = "", **headers: str
) -> httpx.Response:
    response = await client.post(
        f"{IMPORT}?{query}", content=content, headers={**CSV, **headers}, timeout=60
    )
    assert response.status_code == 202, response.text
    return response


async def ended(
    client: httpx.AsyncClient, accepted: httpx.Response, *, within: float = 30
) -> dict[str, Any]:
    async def operation() -> dict[str, Any] | None:
        response = await client.get(accepted.headers["Location"])
        body: dict[str, Any] = response.json()
        return None if body["status"] == "pending" else body

    return await eventually(operation, within=timedelta(seconds=within))


async def keys_of_files(redis: Redis) -> list[bytes]:
    return cast("list[bytes]", await redis.keys("import*:file"))
