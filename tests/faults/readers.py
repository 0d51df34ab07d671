"""Clients that want to know of every change: one polls the list, one follows `/changes`."""

import asyncio
import contextlib
import random
from datetime import datetime, timedelta
from typing import Any

import httpx
from redis.asyncio import Redis

from shared.events.catalog import CHANGES
from tests.support.event_streams import EventSource, Message, messages

MILLISECOND = timedelta(milliseconds=1)
PAUSE = 0.02
LONGEST_VISIT = 0.3
# More than enough for what was written after the last one.
LAST_VISITS = 30

Change = tuple[str, int]


class Poller:
    """Keeps the greatest time that it has seen, and asks for what is later, never for the same.

    `time` is `updated` or `created`; `query` is what it asks for besides.
    """

    def __init__(self, api: httpx.AsyncClient, *, since: datetime, time: str, query: str) -> None:
        self.seen: set[Change] = set()
        self.twice: set[Change] = set()
        self._api = api
        self._time = time
        self._query = query
        self._greatest = since

    async def poll(self) -> None:
        """Walk through all pages of what is new."""
        after = (self._greatest + MILLISECOND).isoformat(timespec="milliseconds")
        link: str | None = str(
            httpx.URL(f"/leads?{self._query}").copy_merge_params({f"{self._time}After": after})
        )
        found: list[dict[str, Any]] = []
        while link is not None:
            response = await self._api.get(link)
            assert response.status_code == 200, response.text
            found += response.json()
            link = response.links.get("next", {}).get("url")
        changes = {(lead["id"], lead["version"]) for lead in found}
        self.twice |= self.seen & changes
        self.seen |= changes
        times = [datetime.fromisoformat(lead[f"{self._time}At"]) for lead in found]
        self._greatest = max([self._greatest, *times])

    async def run(self, chance: random.Random, end: asyncio.Event) -> None:
        """Poll until the end, and once more."""
        while not end.is_set():
            await self.poll()
            await asyncio.sleep(chance.uniform(0, PAUSE))
        await asyncio.sleep(PAUSE)
        await self.poll()


class ForgetsQuietIds(EventSource):
    """Knows only the ids of events, as if the stream did not begin with one."""

    def feed(self, line: str) -> Message | None:
        before = self.last_id
        message = super().feed(line)
        if message is None:
            self.last_id = before
        return message


class ChangesReader:
    """Is cut off all the time, and comes back with the last id that it has."""

    def __init__(self, api: httpx.AsyncClient, source: EventSource, redis: Redis) -> None:
        self.seen: set[Change] = set()
        self.visits = 0
        self._api = api
        self._source = source
        self._redis = redis

    async def look_in(self) -> None:
        """Read what the stream begins with, while there is no event."""
        async with self._stream() as response:
            async for line in response.aiter_lines():
                self._source.feed(line)
                if not line:
                    return

    async def visit(self, *, seconds: float) -> None:
        """Read the stream for a while."""
        self.visits += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._stream() as response:
                async for message in messages(response, self._source):
                    assert message.event == "lead-changed"
                    self.seen.add((message.data["leadId"], message.data["leadVersion"]))

    def _stream(self) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        last_id = self._source.last_id
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        return self._api.stream("GET", "/changes", headers=headers)

    async def run(self, chance: random.Random, end: asyncio.Event) -> None:
        """Read until the end, and then what is left."""
        while not end.is_set():
            await self.visit(seconds=chance.uniform(0.01, LONGEST_VISIT))
        info = await self._redis.xinfo_stream(CHANGES)
        for _ in range(LAST_VISITS):
            if self._source.last_id == info["last-generated-id"].decode():
                return
            await self.visit(seconds=LONGEST_VISIT)
