"""How a request for a summary gets on, as messages of an event stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta

import orjson

from services.api.event_stream import message
from services.api.exchange import Exchange
from shared.domain.errors import UnavailableError
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.storage.summary_history import SummaryHistory

POLL_EVERY = timedelta(milliseconds=200)


class SummaryProgress:
    """Tells `queued`, `running`, and how it ended; `accepted` when that is still open."""

    def __init__(
        self, exchange: Exchange, requests: SummaryHistory, *, patience: timedelta
    ) -> None:
        self._exchange = exchange
        self._requests = requests
        self._patience = patience

    async def messages(
        self, event: Event, *, conclude: Callable[[Outcome], bytes]
    ) -> AsyncGenerator[bytes]:
        """Publish the event and yield what becomes of it; `conclude` words the outcome."""
        identity = orjson.dumps({"id": str(event.id)})
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience.total_seconds()
        has_begun = False
        async with self._exchange.asking(event) as reply:
            yield message("queued", identity)
            outcome = None
            while outcome is None and loop.time() < give_up and not self._exchange.has_hung_up:
                outcome = await self._exchange.wait(reply, patience=POLL_EVERY)
                if outcome is None and not has_begun and await self._has_begun(event):
                    has_begun = True
                    yield message("running", identity)
        if outcome is None:
            yield message("accepted", orjson.dumps({"id": str(event.id), "status": "pending"}))
        else:
            yield conclude(outcome)

    async def _has_begun(self, event: Event) -> bool:
        # Only for show: what cannot be told now may be next time.
        with contextlib.suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(POLL_EVERY.total_seconds()):
                return await self._requests.has_begun(event.id)
        return False
