"""Handlers that do not get on with some events."""

import os
import signal
from collections.abc import Sequence

from redis.asyncio import Redis

from shared.domain.errors import PermanentError, TransientError
from shared.events.data import LeadCreated
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.streams.consuming.subscription import Handler

KILLER, UNFIT, FAILING = "Killer", "Unfit", "Failing"
POISON = (KILLER, UNFIT, FAILING)

# Correlation ids of the events that are meant.
FALTERING, SLEEPY = "faltering", "sleepy"
ASLEEP = "asleep"


class Deadly:
    """Does not survive leads of one name, and fails with others."""

    def __init__(self, handler: Handler, _redis: Redis) -> None:
        self._handler = handler

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        data = [event.data for event in events]
        names = {one.lead.first_name for one in data if isinstance(one, LeadCreated)}
        if KILLER in names:
            os.kill(os.getpid(), signal.SIGKILL)
        if UNFIT in names:
            raise PermanentError("never", code="unfit")
        if FAILING in names:
            raise TransientError("not now")
        return await self._handler(events)


class Faltering:
    """Fails with each of some events once."""

    def __init__(self, handler: Handler, _redis: Redis) -> None:
        self._handler = handler

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        if any(event.correlation_id == FALTERING and event.attempt == 1 for event in events):
            raise TransientError("not now")
        return await self._handler(events)


class SleepsOnce:
    """Sleeps over some events until it is woken; whoever comes second cannot handle them."""

    def __init__(self, handler: Handler, redis: Redis) -> None:
        self._handler = handler
        self._redis = redis

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        if any(event.correlation_id == SLEEPY for event in events):
            if not await self._redis.set(ASLEEP, os.getpid(), nx=True):
                raise PermanentError("not here", code="unfit")
            os.kill(os.getpid(), signal.SIGSTOP)
        return await self._handler(events)
