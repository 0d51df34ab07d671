"""Publishing an event, and awaiting the reply to it.

    handler -> publish_and_await -> stream -> consumer -> reply stream -> Outcome

The reply wakes the request that waits. When none comes in time, the event is noted as accepted:
the client gets 202, and asks `/operations/{event id}` for the outcome.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from prometheus_client import Counter

from services.api.storage.requests import RequestNotes
from shared.domain.errors import UnavailableError
from shared.events.catalog import FLOWS, LEADS, stream_of
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.observability.metrics import counter
from shared.storage.inbox import EventStore
from shared.streams.publisher import Publisher, StreamFullError
from shared.streams.replies import Replies

log = structlog.get_logger(__name__)

_PUBLISHED = counter(
    "leads_published_total",
    "Events of requests, by how the request was answered: with their outcome (answered), or 202, "
    "since the client had asked for that (asked) or the wait was too long (timeout).",
    ["type", "answer"],
    start=[
        [flow.event.type, answer]
        for flow in FLOWS
        if "api" in flow.producers
        for answer in ("answered", "asked", "timeout")
    ],
)
_REFUSED = counter(
    "leads_refused_total",
    "Events of requests that were answered 503: the stream is full, or Redis did not take it.",
    ["why"],
    start=[["full"], ["redis"]],
)

Item = TypeVar("Item")
Result = TypeVar("Result")

# So many writes that come late are remembered, and for so long: what was lost never comes.
MOST_LATE = 100
LATE_REMEMBERED = timedelta(hours=1)


def _count(events: Sequence[Event], answer: str) -> None:
    for event in events:
        _counter(event.type, answer).inc()


@functools.cache
def _counter(type_: str, answer: str) -> Counter:
    return _PUBLISHED.labels(type_, answer)


async def _within(seconds: float, work: "asyncio.Future[object]") -> None:
    """Wait as within `asyncio.timeout`, for what nothing else waits for, at a third of its cost."""
    timer = work.get_loop().call_later(seconds, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        waiting = asyncio.current_task()
        if waiting is None or waiting.cancelling():  # by who no longer wants it
            raise
        raise TimeoutError from None
    finally:
        timer.cancel()


def _give_up(reply: "asyncio.Future[Outcome]") -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())


class Exchange:
    """Requests out, replies back.

    Every method that publishes raises `UnavailableError` when Redis did not take the event in
    time.
    """

    def __init__(
        self,
        publisher: Publisher,
        replies: Replies,
        notes: RequestNotes,
        *,
        publish_timeout: timedelta,
    ) -> None:
        self._publisher = publisher
        self._replies = replies
        self._notes = notes
        self._publish_seconds = publish_timeout.total_seconds()
        self._deadlines: set[asyncio.Timeout] = set()
        self._awaited: set[asyncio.Future[Outcome]] = set()
        self._late: dict[UUID, float] = {}
        self.has_stopped = False

    @property
    def reply_address(self) -> str:
        """Where events that want a reply have it sent."""
        return self._replies.address

    async def publish(self, *events: Event) -> None:
        """Publish in one go, without waiting for outcomes."""
        await self._in_time(self._publisher.publish_all, events)
        _count(events, "asked")
        await self._note_accepted(events)

    async def publish_and_await(self, event: Event, *, within: timedelta) -> Outcome | None:
        """Publish and wait for the outcome; None when there is none within so long."""
        with self._replies.expect(event.id) as reply:
            await self._in_time(self._publisher.publish, event)
            outcome = await self._wait_for_one(reply, within=within)
        _counter(event.type, "timeout" if outcome is None else "answered").inc()
        if outcome is None:
            self._note_late([event])
            await self._note_accepted([event])
        return outcome

    async def publish_and_await_all(
        self, events: Sequence[Event], *, within: timedelta
    ) -> list[Outcome | None]:
        """Publish in one go and wait for the outcomes, each as from `publish_and_await`."""
        with contextlib.ExitStack() as stack:
            replies = [stack.enter_context(self._replies.expect(event.id)) for event in events]
            await self._in_time(self._publisher.publish_all, events)
            await self._wait(asyncio.gather(*replies), within=within)
            outcomes = [None if reply.cancelled() else reply.result() for reply in replies]
        pairs = list(zip(events, outcomes, strict=True))
        late = [event for event, outcome in pairs if outcome is None]
        _count(late, "timeout")
        _count([event for event, outcome in pairs if outcome is not None], "answered")
        self._note_late(late)
        await self._note_accepted(late)
        return outcomes

    @contextlib.asynccontextmanager
    async def publishing(self, event: Event) -> AsyncGenerator["asyncio.Future[Outcome]"]:
        """Publish, and give the reply to await by `await_reply`, as often as wanted."""
        with self._replies.expect(event.id) as reply:
            await self._in_time(self._publisher.publish, event)
            yield reply
            is_open = not reply.done()
        _count([event], "timeout" if is_open else "answered")
        if is_open:
            await self._note_accepted([event])

    async def await_reply(
        self, reply: "asyncio.Future[Outcome]", *, within: timedelta
    ) -> Outcome | None:
        """Wait a little longer; returns None when there is no outcome yet."""
        return await self._wait(asyncio.shield(reply), within=within)

    def stop_waiting(self) -> None:
        """Have every waiting request answered as accepted. The events go their way."""
        self.has_stopped = True
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            deadline.reschedule(now)
        for reply in self._awaited:
            _give_up(reply)

    async def check_lateness(self, events: EventStore) -> None:
        """Raise `UnavailableError` while writes of leads that were answered 202 are not applied."""
        forgotten = time.monotonic() - LATE_REMEMBERED.total_seconds()
        for event_id in [one for one, since in self._late.items() if since < forgotten]:
            self._late.pop(event_id, None)
        if not self._late:
            return
        for event_id in await events.ends(list(self._late)):
            self._late.pop(event_id, None)
        if self._late:
            first = time.monotonic() - min(self._late.values())
            more = " at least" if len(self._late) == MOST_LATE else ""
            raise UnavailableError(
                f"{LEADS}: {len(self._late)} writes{more} that were answered 202 wait, the oldest "
                f"for {first:.0f} s"
            )

    def _note_late(self, events: Sequence[Event]) -> None:
        """Remember some of the writes of leads whose time was up."""
        for event in events:
            if stream_of(event.data) == LEADS and not self.has_stopped:
                self._late[event.id] = time.monotonic()
        for oldest in list(self._late)[:-MOST_LATE]:
            del self._late[oldest]

    async def _in_time(self, publish: "Callable[[Item], asyncio.Future[Any]]", what: Item) -> None:
        try:
            await _within(self._publish_seconds, publish(what))
        except StreamFullError:
            _REFUSED.labels("full").inc()
            raise
        except UnavailableError:
            _REFUSED.labels("redis").inc()
            raise
        except TimeoutError as error:
            _REFUSED.labels("redis").inc()
            raise UnavailableError("Redis did not take the event in time") from error

    async def _wait_for_one(
        self, reply: "asyncio.Future[Outcome]", *, within: timedelta
    ) -> Outcome | None:
        """Do what `_wait` does, for a reply that nothing else waits for, at a third of its cost."""
        timer = reply.get_loop().call_later(within.total_seconds(), _give_up, reply)
        self._awaited.add(reply)
        try:
            return await reply
        except TimeoutError:
            return None
        finally:
            timer.cancel()
            self._awaited.remove(reply)

    async def _wait(self, reply: "asyncio.Future[Result]", *, within: timedelta) -> Result | None:
        deadline = asyncio.timeout(within.total_seconds())
        self._deadlines.add(deadline)
        try:
            async with deadline:
                return await reply
        except TimeoutError:
            return None
        finally:
            self._deadlines.remove(deadline)

    async def _note_accepted(self, events: Sequence[Event]) -> None:
        if not events:
            return
        try:
            async with asyncio.timeout(self._publish_seconds):
                await self._notes.note_accepted(*events)
        except (UnavailableError, TimeoutError) as error:
            # The event is in the stream all the same: only its status is unknown for now.
            log.warning(
                "operation.not_noted",
                event_ids=[str(event.id) for event in events],
                error=str(error),
            )
