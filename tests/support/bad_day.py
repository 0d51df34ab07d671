"""A language model on a bad day: Groq's stand-in, with shares of the calls that go wrong.

What goes well is the stand-in's own answer, which names the lead that it was asked about.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from devstack.standins import groq as standin
from devstack.standins.groq.errors import GroqError, error_for_status
from devstack.standins.groq.requests import read_request
from devstack.standins.serving import running
from tests.support.adversarial import REFUSED_ANSWERS

MINUTE = timedelta(minutes=1)

# What of a hundred calls goes wrong, and how. Of what is nonsense Groq finds out a part itself,
# and of those that it refuses, it answers a part with the time to retry at.
MIX = {"limited": 10, "broken": 5, "hanging": 2, "nonsense": 2, "good": 81}
RETRY_AFTER = timedelta(seconds=1)
TAKES = timedelta(milliseconds=100)


@dataclass(slots=True)
class Call:
    """When a call came, in seconds, and how many tokens it took."""

    at: float
    tokens: int = 0


class BadDay:
    """A server that treats each call as chance has it, and keeps when it came."""

    def __init__(self, chance: random.Random) -> None:
        self.calls: list[Call] = []
        self.moods: Counter[str] = Counter()
        self._chance = chance

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[URL]:
        """Serve for the length of the block; yields the address."""
        settings = standin.GroqSettings()
        app = standin.create_app(settings)
        # Innermost: around it the stand-in words the errors and adds Groq's headers.
        app.middlewares.append(self._treat)
        async with running(app, settings) as url:
            yield url

    @property
    def most_calls(self) -> int:
        """The most calls that came within a minute."""
        return _most_in_a_minute((call.at, 1) for call in self.calls)

    @property
    def most_tokens(self) -> int:
        """The most tokens that were taken by the calls of a minute."""
        return _most_in_a_minute((call.at, call.tokens) for call in self.calls)

    @property
    def failures(self) -> str:
        """How many calls went wrong, in words."""
        return ", ".join(f"{self.moods[mood]:,} {mood}" for mood in MIX if mood != "good")

    @web.middleware
    async def _treat(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        call = Call(time.monotonic())
        self.calls.append(call)
        [mood] = self._chance.choices(list(MIX), weights=list(MIX.values()))
        self.moods[mood] += 1
        await asyncio.sleep(TAKES.total_seconds())
        if mood == "hanging":
            await self._hang(request, call)
        self._refuse(mood)
        return await self._answer(await handler(request), mood, call)

    async def _hang(self, request: web.Request, call: Call) -> None:
        wanted = read_request(await request.json(), standin.GroqFaults())
        # Its usage is unknown: at the worst all that it was allowed.
        call.tokens = wanted.prompt_tokens + (wanted.token_limit or 0)
        await asyncio.Event().wait()

    def _refuse(self, mood: str) -> None:
        if mood == "limited":
            raise self._limited()
        if mood == "broken":
            raise error_for_status(500, retry_after=RETRY_AFTER)
        if mood == "nonsense" and self._is_heads():
            raise error_for_status(400, retry_after=RETRY_AFTER)

    def _limited(self) -> GroqError:
        error = error_for_status(429, retry_after=RETRY_AFTER)
        if self._is_heads():
            error.retry_after = None
        return error

    async def _answer(
        self, answered: web.StreamResponse, mood: str, call: Call
    ) -> web.StreamResponse:
        assert isinstance(answered, web.Response)
        assert isinstance(answered.body, bytes)
        body = orjson.loads(answered.body)
        call.tokens = body["usage"]["total_tokens"]
        if mood != "nonsense":
            return answered
        body["choices"][0]["message"]["content"] = self._chance.choice(REFUSED_ANSWERS)
        return web.json_response(body)

    def _is_heads(self) -> bool:
        return self._chance.random() < 0.5


def _most_in_a_minute(amounts: Iterable[tuple[float, int]]) -> int:
    most = total = 0
    minute: deque[tuple[float, int]] = deque()
    for at, amount in amounts:
        minute.append((at, amount))
        total += amount
        while at - minute[0][0] >= MINUTE.total_seconds():
            total -= minute.popleft()[1]
        most = max(most, total)
    return most
