"""POST /leads/import takes files in as they come, and keeps none that it refuses."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.api.handlers.lead_import import CHUNK, MOST_UPLOADS, MOST_WAITING
from shared.events.envelope import new_id
from shared.streams.imports import ImportFiles
from tests.support.api import OpenApi
from tests.support.eventually import eventually
from tests.support.lead_csv import HEADER, csv_file
from tests.support.lead_imports import CSV, IMPORT, NDJSON, keys_of_files
from tests.support.raw_http import send_raw


@pytest.mark.parametrize(
    ("content", "query", "headers", "status", "code", "names"),
    [
        (b"", "", CSV, 400, "validation-failed", {"body"}),
        (b"\xef\xbb\xbf\r\n\r\n", "", CSV, 400, "validation-failed", {"body"}),
        (b"\n \n", "", NDJSON, 400, "validation-failed", {"body"}),
        (
            "firstName,lastName,shoe size\n".encode("utf-16"),
            "",
            CSV,
            400,
            "validation-failed",
            {"shoe size"},
        ),
        (b"PK\x03\x04\x14\x00", "", CSV, 400, "validation-failed", {"body"}),
        (csv_file([], header="email,shoe size"), "", CSV, 400, "validation-failed", {"shoe size"}),
        (csv_file([], header="Pr\xe9nom,email"), "", CSV, 400, "validation-failed", {"Pr\xe9nom"}),
        (
            csv_file([], header="email"),
            "",
            CSV,
            400,
            "validation-failed",
            {"firstName", "lastName"},
        ),
        (csv_file([]), "mode=upsert", CSV, 400, "validation-failed", {"externalId"}),
        (csv_file([]), "map=Mail:email", CSV, 400, "validation-failed", {"Mail"}),
        (csv_file([]), "map=email:mail", CSV, 400, "validation-failed", {"map.0"}),
        (b"{}", "map=Mail:email", NDJSON, 400, "validation-failed", {"map"}),
        (csv_file([]), "mode=replace&dryRun=1&x=1", CSV, 400, "validation-failed", {"x"}),
        (csv_file([]), "mode=replace&dryRun=1", CSV, 400, "validation-failed", {"mode", "dryRun"}),
        (csv_file([]), "mode=create&mode=create", CSV, 400, "validation-failed", {"mode"}),
        (csv_file([]), "", {"Content-Type": "text/plain"}, 415, "unsupported-media-type", None),
        (csv_file([]), "", {}, 415, "unsupported-media-type", None),
        (
            csv_file([]),
            "",
            {"Content-Type": "text/csv; charset=rot13"},
            415,
            "unsupported-media-type",
            None,
        ),
        (
            csv_file([]),
            "",
            {**CSV, "Content-Encoding": "gzip"},
            415,
            "unsupported-media-type",
            None,
        ),
    ],
)
async def test_what_cannot_be_imported_is_refused_before_it_is_kept(
    content: bytes,
    query: str,
    headers: dict[str, str],
    status: int,
    code: str,
    names: set[str] | None,
    api: httpx.AsyncClient,
    redis: Redis,
) -> None:
    response = await api.post(f"{IMPORT}?{query}", content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert names is None or response.json()["errors"].keys() == names
    assert await keys_of_files(redis) == []


async def chunks(number: int) -> AsyncGenerator[bytes]:
    yield f"{HEADER}\n".encode()
    for _ in range(number):
        yield b"Ada,King,ada@example.com,\n" * 2_000


@pytest.mark.parametrize("hides_its_length", [True, False])
async def test_a_file_that_is_too_large_is_cut_off_and_forgotten(
    hides_its_length: bool,  # noqa: FBT001 (a parameter of the table)
    open_api: OpenApi,
    redis: Redis,
) -> None:
    content: Any = chunks(30)
    if not hides_its_length:
        content = b"".join([chunk async for chunk in content])
    async with open_api(import_max_bytes=3 * CHUNK) as api:
        response = await api.post(IMPORT, content=content, headers=CSV)
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")
    assert await keys_of_files(redis) == []


async def test_a_slow_sender_has_time_for_each_part_and_none_to_do_nothing(
    open_api: OpenApi, redis: Redis
) -> None:
    async def slowly(pause: float, *, parts: int = 30) -> AsyncGenerator[bytes]:
        async for chunk in chunks(parts):
            yield chunk
            await asyncio.sleep(pause)

    limits = {"body_timeout": timedelta(seconds=1), "request_timeout": timedelta(seconds=1)}
    async with open_api(**limits) as api:
        # Three times as long as any other request may take.
        accepted = await api.post(IMPORT, content=slowly(0.1), headers=CSV)
        assert accepted.status_code == 202
        kept = await keys_of_files(redis)
        refused = await api.post(IMPORT, content=slowly(1.5, parts=0), headers=CSV)
        assert (refused.status_code, refused.json()["code"]) == (408, "body-timeout")
    assert await keys_of_files(redis) == kept


async def test_a_client_that_goes_away_leaves_nothing(api: httpx.AsyncClient, redis: Redis) -> None:
    head = (
        f"POST {IMPORT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
        f"Authorization: {api.headers['Authorization']}\r\nContent-Length: 10000000\r\n\r\n"
    )
    port = api.base_url.port
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + csv_file(["Ada,King,ada@example.com,"] * 40_000))
    await writer.drain()

    async def is_kept() -> bool:
        return bool(await keys_of_files(redis))

    await eventually(is_kept)
    writer.close()

    async def is_gone() -> bool:
        return not await is_kept()

    await eventually(is_gone)
    assert not await redis.exists("stream:imports")


async def test_only_so_many_files_come_at_a_time(api: httpx.AsyncClient, redis: Redis) -> None:
    files = ImportFiles(redis)
    for _ in range(MOST_WAITING):
        await files.keep(new_id())
    response = await api.post(IMPORT, content=csv_file([]), headers=CSV)
    assert (response.status_code, response.json()["code"]) == (429, "rate-limited")
    await redis.flushall()
    head = (
        f"POST {IMPORT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
        f"Authorization: {api.headers['Authorization']}\r\nContent-Length: 9\r\n\r\n"
    )
    writers: list[asyncio.StreamWriter] = []
    for _ in range(MOST_UPLOADS):
        _, writer = await asyncio.open_connection("127.0.0.1", api.base_url.port)
        writer.write(head.encode())
        writers.append(writer)

    async def is_refused() -> bool:
        answer = await send_raw(api, head.encode() + b"email,x\nx")
        return answer.status == 429

    await eventually(is_refused)
    for writer in writers:
        writer.close()

    async def is_read() -> bool:
        answer = await send_raw(api, head.encode() + b"email,x\nx")
        return answer.status == 400

    await eventually(is_read)
