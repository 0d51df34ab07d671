"""What is a span, and below which other one.

    POST /leads > send stream:leads > process stream:leads > chat MODEL, send reply

The second is carried to the third in the entry. A batch has a span of its own, below that of its
event when one event in it is sampled, and else linked with those of all that are.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from opentelemetry.trace import Link, Span, SpanContext, SpanKind

from shared.events.catalog import stream_of
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.observability.span_attributes import about, error_type, message, statement_summary
from shared.observability.spans import (
    Spans,
    current_span,
    fail,
    new_context,
    new_trace_id,
    remote,
    traceparent_of,
)
from shared.observability.tracing import TRACEPARENT, context_of

Answer = TypeVar("Answer")

SERVER_ERROR = 500


class Delivered(Protocol):
    """An event as it was delivered, and its span."""

    stream: str
    event: Event
    span: Span | None

    @property
    def entry_id(self) -> str: ...


class Tracer(Spans):
    """Gives what is sampled its spans, each place by a method."""

    # Requests.

    def traced(
        self, handler: Callable[[Any], Awaitable[Answer]]
    ) -> Callable[[Any], Awaitable[Answer]]:
        """Return a handler of requests that gives those that are sampled a span."""

        async def handle(request: Any) -> Answer:
            parent = remote(request.headers.get(TRACEPARENT))
            span = self.begin("HTTP", parent, SpanKind.SERVER)
            if span is None:
                return await handler(request)
            token = current_span.set(span)
            try:
                return await handler(request)
            finally:
                current_span.reset(token)
                span.end()

        return handle

    def answered(self, method: str, route: str | None, status: int) -> None:
        """Say how the request was answered that is under way, by which route if there is one."""
        span = current_span.get()
        if span is None:
            return
        # Not the path: people put e-mail addresses into paths.
        if route is not None:
            span.update_name(f"{method} {route}")
        span.set_attribute("http.request.method", method)
        span.set_attribute("http.response.status_code", status)
        if route is not None:
            span.set_attribute("http.route", route)
        if status >= SERVER_ERROR:
            fail(span, str(status))

    def carried(self, traceparent: str | None) -> str | None:
        """Return the context of what a request leads to; `traceparent` is its own."""
        span = current_span.get()
        if span is not None:
            return traceparent_of(span)
        return traceparent if context_of(traceparent) else self.unsampled()

    @property
    def ids(self) -> dict[str, str]:
        """What log lines say of the trace in which what happens now is sampled."""
        span = current_span.get()
        return {} if span is None else {"trace": f"{span.get_span_context().trace_id:032x}"}

    # Events on their way.

    @contextlib.contextmanager
    def sending(self, events: Sequence[Event]) -> Generator[Sequence[Event]]:
        """Yield events to be added for what is under way, each with the context of its span."""
        current = current_span.get()
        yield from self._sending(events, None if current is None else current.get_span_context())

    @contextlib.contextmanager
    def sending_many(self, events: Sequence[Event]) -> Generator[Sequence[Event]]:
        """Yield events that each begin a trace of their own: they may be any number."""
        current = current_span.get()
        links = () if current is None else (Link(current.get_span_context()),)
        yield from self._sending(events, None, links)

    def _sending(
        self, events: Sequence[Event], parent: SpanContext | None, links: Sequence[Link] = ()
    ) -> Generator[Sequence[Event]]:
        spans: list[Span] = []
        try:
            yield [self._sent(event, parent, links, spans) for event in events]
        except BaseException as error:
            for span in spans:
                fail(span, type(error).__name__)
            raise
        finally:
            for span in spans:
                span.end()

    def _sent(
        self, event: Event, parent: SpanContext | None, links: Sequence[Link], spans: list[Span]
    ) -> Event:
        stream, own = stream_of(event.data), remote(event.traceparent)
        attributes = message("send", stream) | about(event)
        span = self.begin(f"send {stream}", own or parent, SpanKind.PRODUCER, attributes, links)
        if span is None:
            return event if own else replace(event, traceparent=self.unsampled())
        spans.append(span)
        return replace(event, traceparent=traceparent_of(span))

    # Events that are handled.

    @contextlib.contextmanager
    def processing(self, deliveries: Sequence[Delivered], *, group: str) -> Generator[None]:
        """Give each event that is sampled a span for the length of the block, or until it ends."""
        for one in deliveries:
            one.span = self._process(one, group)
        try:
            yield
        finally:
            for one in deliveries:
                if one.span is not None and one.span.is_recording():
                    one.span.end()

    def _process(self, delivery: Delivered, group: str) -> Span | None:
        parent = remote(delivery.event.traceparent)
        before = remote(delivery.event.tracelink)
        stream = stream_of(delivery.event.data)
        attributes = {
            **message("process", stream),
            **about(delivery.event),
            "messaging.destination.partition.id": delivery.stream,
            "messaging.message.id": delivery.entry_id,
            "messaging.consumer.group.name": group,
            "leads.attempt": delivery.event.attempt,
        }
        links = () if before is None else (Link(before),)
        return self.begin(f"process {stream}", parent, SpanKind.CONSUMER, attributes, links)

    @contextlib.contextmanager
    def batch(self, stream: str, deliveries: Sequence[Delivered]) -> Generator[None]:
        """Have what follows stand below the span of a batch, where one of its events has one."""
        spans = [one.span for one in deliveries if one.span is not None]
        if not spans:
            yield
            return
        parent = spans[0].get_span_context() if len(spans) == 1 else None
        batch = self.start(
            f"batch {stream}",
            parent or new_context(new_trace_id()),
            SpanKind.INTERNAL,
            {"messaging.system": "redis", "messaging.batch.message_count": len(deliveries)},
            [Link(span.get_span_context()) for span in spans],
            is_root=parent is None,
        )
        for span in spans:
            span.add_link(batch.get_span_context())
        with self.within(batch):
            yield

    @contextlib.contextmanager
    def alone(self, delivery: Delivered) -> Generator[None]:
        """Have what follows stand below an event's own span, if it has one."""
        token = current_span.set(delivery.span)
        try:
            yield
        finally:
            current_span.reset(token)

    def applied(
        self,
        ends: Iterable[tuple[Delivered, Outcome]],
        replied: Callable[[Event, Outcome], bool],
        *,
        since: int,
    ) -> None:
        """End the spans of events that took effect; replies were sent from `since` on, in ns."""
        for delivery, outcome in ends:
            if (span := delivery.span) is None:
                continue
            if replied(delivery.event, outcome):
                attributes = message("send", "reply") | about(delivery.event)
                context = span.get_span_context()
                self.start(
                    "send reply", context, SpanKind.PRODUCER, attributes, start_time=since
                ).end()
            span.set_attribute("leads.result", str(outcome.status))
            span.end()

    def failed(self, delivery: Delivered, error: BaseException) -> None:
        """End the span of an event that failed: with the kind of error, and none of its words."""
        if delivery.span is not None:
            fail(delivery.span, error_type(error))
            delivery.span.end()

    # What they are waiting for.

    @contextlib.contextmanager
    def chat(self, provider: str, model: str) -> Generator["Chat | None"]:
        """Give a call of a language model a span."""
        current = current_span.get()
        if current is None:
            yield None
            return
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
        }
        context = current.get_span_context()
        span = self.start(f"chat {model}", context, SpanKind.CLIENT, attributes)
        try:
            yield Chat(span)
        except BaseException as error:
            fail(span, error_type(error))
            raise
        finally:
            span.end()

    def statements(self) -> Callable[[Any], None] | None:
        """Return what gives each statement that the driver logs a span; None when none gets one."""
        current = current_span.get()
        if current is None:
            return None
        parent = current.get_span_context()

        def note(record: Any) -> None:
            end = time.time_ns()
            summary = statement_summary(record.query)
            attributes = {"db.system.name": "postgresql", "db.query.summary": summary}
            begun = end - int(record.elapsed * 1e9)
            span = self.start(summary, parent, SpanKind.CLIENT, attributes, start_time=begun)
            if record.exception is not None:
                fail(span, type(record.exception).__name__)
            span.end(end)

        return note


class Chat:
    """The span of a call of a language model."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def took(self, tokens_in: int | None, tokens_out: int | None) -> None:
        """Say what the call took."""
        usage = {"gen_ai.usage.input_tokens": tokens_in, "gen_ai.usage.output_tokens": tokens_out}
        self._span.set_attributes({name: n for name, n in usage.items() if n is not None})
