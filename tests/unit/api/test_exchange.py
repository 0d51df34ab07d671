"""Publishing takes as long as it may, and ends at once when nobody wants it any more."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest

from services.api.exchange import Exchange
from shared.domain.errors import UnavailableError
from shared.events.data import SyncRequested
from shared.events.envelope import Event
from shared.streams.replies import Replies

EVENT = Event(source="api", subject="sync", data=SyncRequested(requested_by="Ada"))


class SilentPublisher:
    """Never hears from Redis; `was_asked` once somebody waits for it."""

    def __init__(self) -> None:
        self.was_asked = asyncio.Event()

    def publish(self, _event: Event) -> "asyncio.Future[str]":
        self.was_asked.set()
        return asyncio.get_running_loop().create_future()


def exchange(publisher: SilentPublisher, *, publish_timeout: timedelta) -> Exchange:
    replies = Replies(cast("Any", None), instance="api", block=timedelta(seconds=1))
    return Exchange(
        cast("Any", publisher), replies, cast("Any", None), publish_timeout=publish_timeout
    )


async def test_a_publication_that_takes_too_long_is_an_outage() -> None:
    silent = exchange(SilentPublisher(), publish_timeout=timedelta(milliseconds=5))
    with pytest.raises(UnavailableError, match="in time"):
        await silent.publish_and_await(EVENT, within=timedelta(seconds=10))


async def test_who_is_cancelled_while_publishing_is_told_of_no_outage() -> None:
    publisher = SilentPublisher()
    silent = exchange(publisher, publish_timeout=timedelta(seconds=10))
    request = asyncio.create_task(silent.publish_and_await(EVENT, within=timedelta(seconds=10)))
    await publisher.was_asked.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
