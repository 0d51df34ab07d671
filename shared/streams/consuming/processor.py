"""Decides for each delivered entry: handled, retried, parked as a dead letter, or left pending."""

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import structlog

from shared.domain.errors import (
    PermanentError,
    TransientError,
    UnfinishedError,
)
from shared.events.catalog import FLOWS
from shared.events.outcome import Outcome
from shared.observability import tracing
from shared.observability.logging import describe_error, error_fields
from shared.observability.metrics import Series, histogram
from shared.streams.codec import Entry, decode, event_ids
from shared.streams.consuming.health import ConsumerCircuit, LeftPendingError, OutageWait
from shared.streams.consuming.retry import RetryQueue, delay_before
from shared.streams.consuming.settlement import Delivery, Settlement
from shared.streams.consuming.subscription import Subscription

log = structlog.get_logger(__name__)

_BATCH_SECONDS = histogram(
    "leads_batch_seconds",
    "Handling of events that are applied together, waits for a dependency included.",
    ["stream", "group"],
    start=[[flow.stream, group] for flow in FLOWS for group in flow.groups],
)
_BATCH_EVENTS = histogram(
    "leads_batch_events",
    "Events that were applied together.",
    ["stream", "group"],
    buckets=(1, 5, 20, 50, 100, 200),
    start=[[flow.stream, group] for flow in FLOWS for group in flow.groups],
)

# While nearly everything fails, events come back after this long, no attempt used up.
CIRCUIT_DELAY = timedelta(seconds=10)


class Processor:
    """Runs handlers and decides what follows from how they end; no other part does."""

    def __init__(
        self,
        subscription: Subscription,
        settlement: Settlement,
        *,
        retries: RetryQueue,
        max_attempts: int,
        circuit: ConsumerCircuit,
        outages: OutageWait,
    ) -> None:
        self._subscription = subscription
        self._settlement = settlement
        self._retries = retries
        self._max_attempts = max_attempts
        self._circuit = circuit
        self._outages = outages

    async def process(self, entries: Sequence[Entry]) -> bool:
        """Bring each entry to its end, in order; False when some had to be left pending."""
        try:
            opened = [await self._open(entry) for entry in entries]
            deliveries = [delivery for delivery in opened if delivery is not None]
            with traced(deliveries, self._subscription):
                for _, run in itertools.groupby(deliveries, key=lambda one: one.event.type):
                    await self._apply(list(run))
        except LeftPendingError as error:
            log.info("entries.left_pending", stream=self._subscription.stream, error=str(error))
            return False
        except Exception as error:  # noqa: BLE001 (who takes them over tries again, and counts)
            log.warning(
                "entries.left_pending", stream=self._subscription.stream, **error_fields(error)
            )
            return False
        return True

    async def _open(self, entry: Entry) -> Delivery | None:
        """Return the event in an entry; None when there is nothing to handle in it."""
        try:
            event = decode(entry.fields)
        except PermanentError as error:
            await self._reject(entry, error)
            return None
        for_others = event.only_group not in {None, self._subscription.group}
        if for_others or event.type not in self._subscription.handlers:
            await self._settlement.acknowledge(entry.id)
            return None
        return Delivery(self._subscription.stream, entry, event)

    async def _apply(self, run: Sequence[Delivery]) -> None:
        """Handle events of one type together, or each alone when that fails."""
        try:
            outcomes = await self._handle(run)
        except LeftPendingError:
            raise
        except Exception as error:  # noqa: BLE001 (the one place that decides what follows)
            if len(run) == 1:
                run[0].fail(error)
                await self._reject(run[0].entry, error)
                return
            log.warning("batch.isolated", entries=len(run), error=describe_error(error))
            for delivery in run:
                await self._apply([delivery])
        else:
            for delivery in run:
                self._circuit.succeeded(delivery.entry.event_id)
            await self._settlement.endings.submit((run, outcomes))

    async def _handle(self, run: Sequence[Delivery]) -> Sequence[Outcome]:
        return await handle(self._subscription, run, outages=self._outages)

    async def _reject(self, entry: Entry, error: Exception) -> None:
        """Decide by the error: go on later, retry, or park."""
        if isinstance(error, UnfinishedError):
            self._circuit.succeeded(entry.event_id)
            await self._retries.schedule(entry, attempt=1, delay=timedelta(0))
            return
        self._circuit.failed(entry.event_id)
        if self._circuit.is_open and entry.is_text:
            await self._retry(entry, error, attempt=entry.attempt, delay=CIRCUIT_DELAY)
        elif isinstance(error, PermanentError):
            await self._settlement.park(entry, error, reason=error.code)
        elif entry.attempt >= self._max_attempts:
            reason = "attempts" if isinstance(error, TransientError) else "error"
            await self._settlement.park(entry, error, reason=reason)
        else:
            attempt = entry.attempt + 1
            await self._retry(entry, error, attempt=attempt, delay=delay_before(attempt))

    async def _retry(
        self, entry: Entry, error: Exception, *, attempt: int, delay: timedelta
    ) -> None:
        log.warning(
            "event.retried",
            **failure(entry, error, attempt=attempt, wait=delay),
            stream=self._subscription.stream,
        )
        self._settlement.count_retried(entry)
        await self._retries.schedule(entry, attempt=attempt, delay=delay)


def traced(
    deliveries: Sequence[Delivery], subscription: Subscription
) -> AbstractContextManager[None]:
    """Give events that are sampled their spans for the length of the block."""
    tracer = tracing.tracer
    if tracer is None:
        return contextlib.nullcontext()
    return tracer.processing(deliveries, group=subscription.group)


def _traced_batch(
    run: Sequence[Delivery], subscription: Subscription
) -> AbstractContextManager[None]:
    """Have what the handler does stand below the spans of its events."""
    tracer = tracing.tracer
    if tracer is None:
        return contextlib.nullcontext()
    is_alone = subscription.batch == 1
    return tracer.alone(run[0]) if is_alone else tracer.batch(subscription.stream, run)


def failure(entry: Entry, error: Exception, *, attempt: int, wait: timedelta) -> dict[str, object]:
    """Return what the log says of an event that failed for now."""
    return {
        **event_ids(entry.fields),
        "entry": entry.id,
        "reason": "transient" if isinstance(error, TransientError) else "defect",
        "attempt": attempt,
        "due": (datetime.now(UTC) + wait).isoformat(timespec="milliseconds"),
        **error_fields(error),
    }


@functools.cache
def _series(stream: str, group: str) -> tuple[Series, Series]:
    return _BATCH_EVENTS.labels(stream, group), _BATCH_SECONDS.labels(stream, group)


async def handle(
    subscription: Subscription, run: Sequence[Delivery], *, outages: OutageWait
) -> Sequence[Outcome]:
    """Call the handler of these events, of one type, within its deadline; waits out outages."""
    events = [delivery.event for delivery in run]
    handler = subscription.handlers[events[0].type]

    async def call() -> Sequence[Outcome]:
        try:
            async with asyncio.timeout(subscription.deadline.total_seconds()):
                return await handler(events)
        except TimeoutError as error:
            raise TransientError("the handler ran past its deadline") from error

    size, seconds = _series(subscription.stream, subscription.group)
    size.observe(len(events))
    with (
        seconds.time(),
        # What is logged about one event says which.
        structlog.contextvars.bound_contextvars(**(run[0].ids if len(run) == 1 else {})),
        _traced_batch(run, subscription),
    ):
        return await outages.call(call)
