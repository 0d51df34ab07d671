"""How spans begin, end and leave for a collector: the one place that knows OpenTelemetry's SDK."""

import contextlib
import logging
import random
from collections.abc import Generator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from shared.observability.tracing import context_of, is_sampled
from shared.settings import ObservabilitySettings

log = structlog.get_logger(__name__)

# A batch is linked to each of its events, of which there are up to 200.
MOST_LINKS = 512
QUEUE, BATCH, EXPORTED_EVERY_MS = 10_000, 512, 1_000

# More than it takes to find the id of a trace that is not kept, where nearly all are.
MOST_TRIES = 1_000

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
NO_PARENT = Context()

# The span below which what happens now happens. A request's ends with the request, while the task
# goes on with the connection's next one.
current_span: ContextVar[Span | None] = ContextVar("span", default=None)


class _Ids(RandomIdGenerator):
    """Gives a trace the id by which it was chosen."""

    chosen = 0

    def generate_trace_id(self) -> int:
        return self.chosen


def collector(settings: ObservabilitySettings) -> SpanExporter:
    """Return what sends spans to the collector that the settings name."""
    headers = settings.otel_exporter_otlp_headers
    pairs = [] if headers is None else headers.get_secret_value().split(",")
    # It would have a line for each try.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return Reported(
        OTLPSpanExporter(
            f"{settings.otel_exporter_otlp_endpoint}/v1/traces",
            headers={
                name.strip(): value.strip()
                for name, _, value in (one.partition("=") for one in pairs)
            },
        )
    )


class Reported(SpanExporter):
    """Says so when spans are lost, once a minute as with every warning that repeats."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans to the collector."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            log.warning("traces.lost", setting="OTEL_EXPORTER_OTLP_ENDPOINT", spans=len(spans))
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()


class Spans:
    """Begins spans in the share `ratio` of all traces."""

    def __init__(
        self, exporter: SpanExporter, *, ratio: float, service: str, instance: str
    ) -> None:
        self._ratio = ratio
        self._ids = _Ids()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is not sampled never gets so far
            resource=Resource.create(
                {
                    "service.namespace": "leads",
                    "service.name": f"leads-{service}",
                    "service.instance.id": instance,
                }
            ),
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=SpanLimits(max_links=MOST_LINKS, max_span_attributes=32),
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=QUEUE,
                max_export_batch_size=BATCH,
                schedule_delay_millis=EXPORTED_EVERY_MS,
            )
        )
        self._tracer = self._provider.get_tracer("leads")

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()

    def flush(self) -> None:
        """Export what has ended so far."""
        self._provider.force_flush()

    @contextlib.contextmanager
    def within(self, span: Span) -> Generator[None]:
        token = current_span.set(span)
        try:
            yield
        except BaseException as error:
            fail(span, type(error).__name__)
            raise
        finally:
            current_span.reset(token)
            span.end()

    def begin(
        self,
        name: str,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] = (),
    ) -> Span | None:
        """Return a span below another one or of a new trace, if that trace is sampled."""
        trace_id = new_trace_id() if parent is None else parent.trace_id
        if not is_sampled(trace_id, ratio=self._ratio):
            return None
        context = parent or new_context(trace_id)
        return self.start(name, context, kind, attributes, links, is_root=parent is None)

    def start(
        self,
        name: str,
        context: SpanContext,
        kind: SpanKind,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] = (),
        *,
        is_root: bool = False,
        start_time: int | None = None,
    ) -> Span:
        if is_root:
            self._ids.chosen = context.trace_id
            parent = NO_PARENT
        else:
            parent = set_span_in_context(NonRecordingSpan(context), NO_PARENT)
        return self._tracer.start_span(
            name, parent, kind, dict(attributes or {}), links, start_time, record_exception=False
        )

    def unsampled(self) -> str | None:
        """Return the context of a trace that has no spans, so that none begins later.

        None where all traces have some.
        """
        if self._ratio >= 1:
            return None
        for _ in range(MOST_TRIES):
            trace_id = new_trace_id()
            if not is_sampled(trace_id, ratio=self._ratio):
                return f"00-{trace_id:032x}-{random.getrandbits(64) or 1:016x}-00"
        return None


# As good as they come: ids are no secrets, and the system's random numbers are slow.


def new_trace_id() -> int:
    """Return the id of a trace that is about to begin."""
    return random.getrandbits(128) or 1


def new_context(trace_id: int) -> SpanContext:
    """Return what stands for the parent of a span that has none."""
    span_id = random.getrandbits(64) or 1
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=SAMPLED)


def fail(span: Span, error_type: str) -> None:
    if span.is_recording():
        span.set_attribute("error.type", error_type)
        span.set_status(StatusCode.ERROR)


def remote(traceparent: str | None) -> SpanContext | None:
    ids = context_of(traceparent)
    return None if ids is None else SpanContext(*ids, is_remote=True, trace_flags=SAMPLED)


def traceparent_of(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
