"""Reading Server-Sent Events as a browser's EventSource does.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson


@dataclass(frozen=True, slots=True)
class Message:
    """One event; `data` is its JSON, `id` the last id that the stream has had until then."""

    event: str
    data: Any
    id: str | None = None


class EventSource:
    """Interprets lines of a stream; `last_id` is what a client that reconnects sends."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry: int | None = None
        self.begin()

    def begin(self) -> None:
        """Begin with a stream: what was cut off in the last one is gone."""
        self._id = self.last_id
        self._event = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Message | None:
        """Take a line in; returns the event that it ends."""
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        self._take(name, value.removeprefix(" "))
        return None

    def _take(self, name: str, value: str) -> None:
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value or None
            case "retry" if value.isdigit():
                self.retry = int(value)
            case _:
                pass  # a comment, or a field that the standard does not know

    def _dispatch(self) -> Message | None:
        self.last_id = self._id
        event, data = self._event or "message", "\n".join(self._data)
        self._event, self._data = "", []
        return Message(event, orjson.loads(data), self.last_id) if data else None


async def messages(
    response: httpx.Response, source: EventSource | None = None
) -> AsyncGenerator[Message]:
    """Yield the events of a stream."""
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    source = source or EventSource()
    source.begin()
    async for line in response.aiter_lines():
        message = source.feed(line)
        if message is not None:
            yield message
