"""The server itself: slow senders, defects, and connections."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import cast

import httpx
import pytest
from aiohttp import web

from services.api.server.gateway import Cors, Gateway
from services.api.server.routing import Call, Route, Router
from services.api.server.server import serving
from services.api.settings import HttpSettings
from services.api.web.body import read_json_object
from services.api.web.endpoint import Access
from services.api.web.responses import json_response
from services.api.web.streaming import StreamedResponse
from tests.support.auth_server import AuthServer
from tests.support.eventually import eventually
from tests.support.projects import open_project
from tests.support.raw_http import send_raw

SECRET = "ada@example.com"
KEEPALIVE = timedelta(seconds=0.7)
PIECE_BYTES = 1_000_000
FILE_BYTES = 4 * PIECE_BYTES
BUFFER = 64 * 1024
LAST_CHUNK = b"0\r\n\r\n"


async def break_(_call: Call) -> web.StreamResponse:
    raise LookupError(SECRET)


async def read(call: Call) -> web.StreamResponse:
    await read_json_object(call.request, within=timedelta(seconds=1))
    return json_response(b"{}")


async def name(call: Call) -> web.StreamResponse:
    return json_response(b"{}", headers={call.request.query["name"]: call.request.query["value"]})


async def dawdle(_call: Call) -> web.StreamResponse:
    await asyncio.sleep(30)
    return json_response(b"{}")


async def stream(call: Call) -> web.StreamResponse:
    """Answer with a file: to a reader who takes `slowest` bytes a second, with 0.1 s to spare."""
    # What the system would send on its own would not be waited for.
    sock = cast("asyncio.Transport", call.request.transport).get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    async def rest() -> AsyncGenerator[bytes]:
        for _ in range(FILE_BYTES // PIECE_BYTES - 1):
            yield bytes(PIECE_BYTES)

    return StreamedResponse(
        bytes(PIECE_BYTES),
        rest(),
        headers={"Content-Type": "application/octet-stream"},
        slowest=int(call.request.query["slowest"]),
        to_spare=timedelta(seconds=0.1),
    )


@pytest.fixture
async def served(auth: AuthServer) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client of a server with routes that misbehave."""
    async with httpx.AsyncClient() as http:
        gateway = Gateway(
            Router(
                [
                    Route("GET", "/broken", break_, Access.PUBLIC),
                    Route("POST", "/body", read, Access.PUBLIC),
                    Route("GET", "/slow", dawdle, Access.PUBLIC),
                    Route("GET", "/header", name, Access.PUBLIC, parameters=None),
                    Route("GET", "/file", stream, Access.PUBLIC, parameters=None),
                ]
            ),
            open_project(auth, http).verifier,
            cors=Cors([]),
            limits=None,
            operator_key=None,
            request_timeout=timedelta(seconds=2),
            logs_reads=False,
            on_drain=lambda: None,
        )
        settings = HttpSettings(port=0, api_host="127.0.0.1", keepalive_timeout=KEEPALIVE)
        async with (
            serving(gateway, settings, stop_waiting=lambda: None) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=5) as client,
        ):
            yield client


@pytest.mark.parametrize("name", ["Cache-Control", "content-type", "X-CONTENT-TYPE-OPTIONS"])
async def test_an_answers_own_header_takes_the_place_of_the_common_one(
    name: str, served: httpx.AsyncClient
) -> None:
    response = await served.get("/header", params={"name": name, "value": "own"})
    assert response.headers.get_list(name) == ["own"]
    assert response.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\nb", "a\0b", "\x7f"])
async def test_no_header_goes_out_that_is_more_than_one_line(
    value: str, served: httpx.AsyncClient
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await served.get("/header", params={"name": "X-Given", "value": value})


async def test_a_defect_is_answered_without_its_contents(
    served: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    response = await served.get("/broken", headers={"X-Request-Id": "the-broken-one"})
    assert response.status_code == 500
    assert response.headers["X-Request-Id"] == "the-broken-one"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.json()["code"] == "internal-error"
    assert "the-broken-one" in response.json()["detail"]
    logged = capsys.readouterr().out
    assert "LookupError" in logged
    assert "break_" in logged
    assert SECRET not in response.text + logged


async def test_a_defect_breaks_no_other_request(served: httpx.AsyncClient) -> None:
    for _ in range(3):
        assert (await served.get("/broken")).status_code == 500
        assert (await served.post("/body", json={})).status_code == 200


async def test_a_request_has_a_deadline(served: httpx.AsyncClient) -> None:
    response = await served.get("/slow")
    assert (response.status_code, response.json()["code"]) == (503, "timeout")


async def test_a_body_that_does_not_arrive_is_given_up(served: httpx.AsyncClient) -> None:
    answer = await send_raw(
        served,
        b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 20\r\n\r\n{"some":',
    )
    assert (answer.status, answer.code) == (408, "body-timeout")


async def test_a_connection_serves_many_requests(served: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection(served.base_url.host, served.base_url.port)
    for _ in range(3):
        writer.write(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 ")
        assert b"Connection: close" not in head
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()


async def test_an_idle_connection_outlives_those_that_proxies_keep(
    served: httpx.AsyncClient,
) -> None:
    reader, writer = await asyncio.open_connection(served.base_url.host, served.base_url.port)
    writer.write(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
    started = time.monotonic()
    async with asyncio.timeout(10):
        await reader.read(-1)
    # As it was set here. By itself it is longer than the pools of Caddy, nginx, Go and AWS.
    assert time.monotonic() - started > KEEPALIVE.total_seconds() * 0.9
    assert HttpSettings().keepalive_timeout > timedelta(seconds=120)
    writer.close()


async def test_an_older_client_is_answered_and_let_go(served: httpx.AsyncClient) -> None:
    answer = await send_raw(served, b"GET /nowhere HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.headers["connection"]) == (404, "close")


@contextlib.asynccontextmanager
async def asking_for_file(
    served: httpx.AsyncClient, *, slowest: int
) -> AsyncGenerator[asyncio.StreamReader]:
    """Have a file begin to come."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    sock.connect((served.base_url.host, served.base_url.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        writer.write(b"GET /file?slowest=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % slowest)
        yield reader
    finally:
        writer.close()


@pytest.mark.parametrize(("piece", "pause"), [(1 << 18, 0.02), (1 << 16, 0.01), (1 << 12, 0.001)])
async def test_a_slow_reader_gets_all_of_a_file(
    piece: int, pause: float, served: httpx.AsyncClient
) -> None:
    """Each part of the file takes longer than there is to spare."""
    received = bytearray()
    async with asking_for_file(served, slowest=200_000) as reader:
        while not received.endswith(LAST_CHUNK) and (part := await reader.read(piece)):
            received += part
            await asyncio.sleep(pause)
    assert received.endswith(LAST_CHUNK)
    assert len(received) > FILE_BYTES


async def test_a_reader_that_stops_is_cut_off(
    served: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    async def is_logged() -> bool:
        return "http.broken_off" in capsys.readouterr().out

    async with asking_for_file(served, slowest=50_000_000) as reader:
        await eventually(is_logged)
        received = await reader.read(-1)
    assert not received.endswith(LAST_CHUNK)
