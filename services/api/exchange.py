"""Publishing an event and waiting for what comes of it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Sequence
from datetime import timedelta
from typing import TypeVar

import structlog

from services.api.storage.requests import AcceptedEvents
from shared.domain.errors import UnavailableError
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.streams.publisher import Publisher
from shared.streams.replies import Replies

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class Exchange:
    """Requests out, replies back."""

    def __init__(
        self,
        publisher: Publisher,
        replies: Replies,
        accepted: AcceptedEvents,
        *,
        publish_timeout: timedelta,
    ) -> None:
        self._publisher = publisher
        self._replies = replies
        self._accepted = accepted
        self._publish_seconds = publish_timeout.total_seconds()
        self._deadlines: set[asyncio.Timeout] = set()
        self.has_hung_up = False

    @property
    def reply_address(self) -> str:
        """Where events that want a reply have it sent."""
        return self._replies.address

    async def ask(self, event: Event, *, patience: timedelta) -> Outcome | None:
        """Publish and wait for the outcome; None when it is still open after `patience`.

        Raises `UnavailableError` when Redis did not take the event in time.
        """
        with self._replies.expect(event.id) as reply:
            await self._in_time(self._publisher.publish(event))
            outcome = await self._wait(reply, patience=patience)
        if outcome is None:
            await self._note_accepted(event)
        return outcome

    async def ask_all(
        self, events: Sequence[Event], *, patience: timedelta
    ) -> list[Outcome | None]:
        """Publish in one go and wait for the outcomes, each as from `ask`; raises like it."""
        with contextlib.ExitStack() as stack:
            replies = [stack.enter_context(self._replies.expect(event.id)) for event in events]
            await self._in_time(self._publisher.publish_all(events))
            await self._wait(asyncio.gather(*replies), patience=patience)
            outcomes = [None if reply.cancelled() else reply.result() for reply in replies]
        await self._note_accepted(
            *(event for event, outcome in zip(events, outcomes, strict=True) if outcome is None)
        )
        return outcomes

    @contextlib.asynccontextmanager
    async def asking(self, event: Event) -> AsyncGenerator["asyncio.Future[Outcome]"]:
        """Publish, and give what to `wait` for, as often as wanted; raises like `ask`."""
        with self._replies.expect(event.id) as reply:
            await self._in_time(self._publisher.publish(event))
            yield reply
            is_open = not reply.done()
        if is_open:
            await self._note_accepted(event)

    async def wait(
        self, reply: "asyncio.Future[Outcome]", *, patience: timedelta
    ) -> Outcome | None:
        """Wait a little longer; returns None when there is no outcome yet."""
        return await self._wait(asyncio.shield(reply), patience=patience)

    async def tell(self, event: Event) -> None:
        """Publish without waiting; raises like `ask`."""
        await self.tell_all([event])

    async def tell_all(self, events: Sequence[Event]) -> None:
        """Publish in one go without waiting; raises like `ask`."""
        await self._in_time(self._publisher.publish_all(events))
        await self._note_accepted(*events)

    def hang_up(self) -> None:
        """Stop waiting: what is still open is answered as accepted. The events go their way."""
        self.has_hung_up = True
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            deadline.reschedule(now)

    async def _in_time(self, publication: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(self._publish_seconds):
                await publication
        except TimeoutError as error:
            raise UnavailableError("Redis did not take the event in time") from error

    async def _wait(self, reply: "asyncio.Future[Result]", *, patience: timedelta) -> Result | None:
        deadline = asyncio.timeout(patience.total_seconds())
        self._deadlines.add(deadline)
        try:
            async with deadline:
                return await reply
        except TimeoutError:
            return None
        finally:
            self._deadlines.remove(deadline)

    async def _note_accepted(self, *events: Event) -> None:
        if not events:
            return
        try:
            async with asyncio.timeout(self._publish_seconds):
                await self._accepted.add(*(event.id for event in events))
        except (UnavailableError, TimeoutError) as error:
            # The event is in the stream all the same; only its progress cannot be told yet.
            log.warning(
                "operation.unnoted", event_ids=[str(event.id) for event in events], error=str(error)
            )
