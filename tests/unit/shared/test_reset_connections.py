"""uvloop's own kind of error does not get past the drivers."""

import asyncio

import pytest
import uvloop

from shared.reset_connections import as_reset_error


async def _write_to_a_closed_connection() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.transport.abort()
    await asyncio.sleep(0)  # the loop closes it in its next round
    try:
        with as_reset_error():
            writer.write(b"PING\r\n")
    finally:
        server.close()


def test_a_write_to_a_reset_connection_is_a_reset_error() -> None:
    with pytest.raises(ConnectionResetError):
        uvloop.run(_write_to_a_closed_connection())


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="a defect"), as_reset_error():
        raise RuntimeError("a defect")
