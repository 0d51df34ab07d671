"""An auth server whose connections end in the middle is one that is away, and nothing else."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Generator
from datetime import timedelta

import httpx
import pytest
import uvloop

from services.api.auth.client import open_client

AT_ONCE, ROUNDS = 20, 20
RESET = struct.pack("ii", 1, 0)  # linger for no time at all


@pytest.fixture
def resetting() -> Generator[str]:
    """Yield the URL of a server that resets each connection as soon as it is there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_connection_that_is_reset_is_an_error_of_the_client(resetting: str) -> None:
    """Of 400 every fourth was an AttributeError, in the event loop that services run in."""

    async def ask() -> list[object]:
        async with open_client(timeout=timedelta(seconds=5)) as client:
            asked = (client.get(resetting) for _ in range(AT_ONCE))
            return await asyncio.gather(*asked, return_exceptions=True)

    errors = [error for _ in range(ROUNDS) for error in uvloop.run(ask())]
    assert [error for error in errors if not isinstance(error, httpx.TransportError)] == []
    assert len(errors) == AT_ONCE * ROUNDS
