"""A response that is complete from the start: what is sent, and to whom."""

import asyncio
from typing import Any

import pytest
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.test_utils import make_mocked_request

from services.api.web.responses import WholeResponse, json_response, lead_response


class Client(asyncio.Transport):
    """Notes what is sent to it."""

    def __init__(self, *, has_gone: bool = False) -> None:
        super().__init__()
        self.sent = b""
        self._has_gone = has_gone

    def write(self, data: Any) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self._has_gone


class SlowWriter(AbstractStreamWriter):
    """Drains when it is told that the client has read. Nothing else of it is to be asked for."""

    def __init__(self) -> None:
        self.has_read = asyncio.Event()

    async def drain(self) -> None:
        await self.has_read.wait()

    async def write(self, chunk: Any) -> None:
        raise NotImplementedError

    async def write_eof(self, chunk: bytes = b"") -> None:
        raise NotImplementedError

    async def write_headers(self, status_line: str, headers: Any) -> None:
        raise NotImplementedError

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        raise NotImplementedError

    def enable_chunking(self) -> None:
        raise NotImplementedError


async def send(response: WholeResponse, client: Client, writer: SlowWriter | None = None) -> None:
    if writer is None:
        writer = SlowWriter()
        writer.has_read.set()
    request = make_mocked_request("GET", "/", transport=client, writer=writer)
    await response.prepare(request)
    await response.write_eof()


async def test_a_lead_is_sent_with_its_version_and_the_id_of_its_request() -> None:
    client = Client()
    response = lead_response(b"{}", version=7)
    response.request_id = "a request"
    await send(response, client)
    head, _, body = client.sent.partition(b"\r\n\r\n")
    assert body == b"{}"
    assert {b'Etag: "7"', b"X-Request-Id: a request", b"Content-Length: 2"} < set(
        head.split(b"\r\n")
    )


async def test_a_header_of_its_own_replaces_one_that_all_have() -> None:
    for type_ in ("text/plain", "text/csv"):
        client = Client()
        await send(json_response(b"", headers={"content-type": type_}), client)
        lines = client.sent.lower().split(b"\r\n")
        assert [line for line in lines if line.startswith(b"content-type")] == [
            f"content-type: {type_}".encode()
        ]
        assert b"server: leads" in lines


async def test_a_header_never_has_more_than_one_line() -> None:
    response = json_response(b"", headers={hdrs.LOCATION: "/\r\nSet-Cookie: a=b"})
    with pytest.raises(ValueError, match="control characters"):
        await send(response, Client())


async def test_nothing_is_sent_to_a_client_that_has_gone() -> None:
    client = Client(has_gone=True)
    with pytest.raises(ConnectionResetError):
        await send(json_response(b"{}"), client)
    assert not client.sent


async def test_the_next_answer_waits_until_a_slow_client_has_read() -> None:
    writer = SlowWriter()
    sending = asyncio.ensure_future(send(json_response(b"{}"), Client(), writer))
    await asyncio.sleep(0)
    assert not sending.done()
    writer.has_read.set()
    await sending
