"""HTTP written by hand, for requests that no client library would send."""

import asyncio
from dataclasses import dataclass

import httpx
import orjson

ANSWER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem's code."""
        return str(orjson.loads(self.body)["code"])


async def send_raw(api: httpx.AsyncClient, request: bytes) -> RawAnswer:
    """Send bytes on a new connection and return the one answer to them."""
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    try:
        writer.write(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    finally:
        writer.close()
    return RawAnswer(int(lines[0].split(" ")[1]), headers, body)
