"""Reading Server-Sent Events as a client."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson


@dataclass(frozen=True, slots=True)
class Message:
    """One event; `data` is its JSON."""

    event: str
    data: Any
    id: str | None = None


async def messages(response: httpx.Response) -> AsyncGenerator[Message]:
    """Yield the events of a stream, without its comments."""
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif not line:
            if "event" in fields:
                yield Message(fields["event"], orjson.loads(fields["data"]), fields.get("id"))
            fields = {}
