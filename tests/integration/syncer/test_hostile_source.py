"""The source of leads is a stranger: what it sends costs little and changes nothing else."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from services.syncer.sources.randomuser import MAX_BYTES, RandomUserSource
from shared.domain.errors import TransientError

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def source(answer: Answer) -> AsyncGenerator[RandomUserSource]:
    """Serve, and yield what fetches leads from there."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/"
            yield RandomUserSource(session, url)
    finally:
        await runner.cleanup()


async def refusal(answer: Answer) -> str:
    async with source(answer) as fetched:
        with pytest.raises(TransientError) as raised:
            await fetched.fetch(10)
    return str(raised.value)


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:6379/",
        "//evil.example/api/",
        "file:///etc/passwd",
    ],
)
async def test_it_cannot_send_us_elsewhere(location: str) -> None:
    async def redirect(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    assert "redirects to another host" in await refusal(redirect)


async def test_it_cannot_send_us_in_circles() -> None:
    asked: list[str] = []

    async def redirect(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/api/again"})

    assert "in circles" in await refusal(redirect)
    assert len(asked) == 3


async def test_it_cannot_fill_our_memory() -> None:
    """Chunk by chunk, without saying how much is to come."""
    sent = 0

    async def flood(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10 * MAX_BYTES >> 20):
            await response.write(b" " * (1 << 20))
            sent += 1 << 20
        return response

    assert await refusal(flood)
    assert sent < 2 * MAX_BYTES


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"results": {}}',
        b"[" * 100_000,
        b'{"results": [' + b'{"a":' * 50_000,
        b"\xff\xfe",
    ],
)
async def test_what_are_no_users_is_no_sync(body: bytes) -> None:
    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    assert "something else than users" in await refusal(answer)


async def test_it_sends_no_more_than_it_was_asked_for() -> None:
    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        body = json.dumps({"results": [{}] * 5_000}).encode()
        return web.Response(body=body, content_type="application/json")

    async with source(answer) as fetched:
        found = await fetched.fetch(10)
    assert (len(found.leads), len(found.problems)) == (0, 10)
