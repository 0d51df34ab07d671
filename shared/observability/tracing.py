"""Traces of a share of all requests, where a collector is configured; else `tracer` is None.

Nothing of OpenTelemetry is imported then, and each place where a span would begin looks at `tracer`
and goes on.
"""

import contextlib
import re
import threading
from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.observability.logging import in_sample
from shared.settings import ObservabilitySettings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from shared.observability.tracer import Tracer

# A process that ends does not wait for longer for a collector to take its last spans.
FLUSHED_WITHIN = timedelta(seconds=1)

TRACEPARENT = "traceparent"

tracer: "Tracer | None" = None

# Of the W3C's trace context: version, trace, span, flags.
_context = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}"
).fullmatch


def context_of(traceparent: str | None) -> tuple[int, int] | None:
    """Return the ids of trace and span in a `traceparent`; None when it is none."""
    match = None if traceparent is None else _context(traceparent)
    return None if match is None else (int(match[1], 16), int(match[2], 16))


def is_sampled(trace_id: int, *, ratio: float) -> bool:
    """Return whether a trace is one of those that are kept: every process says the same."""
    return in_sample(f"{trace_id:032x}", share=ratio)


@contextlib.contextmanager
def traced(settings: ObservabilitySettings, *, service: str, instance: str) -> Generator[None]:
    """Trace for the length of the block, if the settings name a collector."""
    if settings.otel_exporter_otlp_endpoint is None:
        yield
        return
    try:
        from shared.observability.spans import collector  # noqa: PLC0415 (the extra `tracing`)
    except ImportError as error:
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT: needs the extra `tracing` ({error.name} is missing)"
        ) from error
    with tracing_to(
        collector(settings), ratio=settings.trace_ratio, service=service, instance=instance
    ):
        yield


@contextlib.contextmanager
def tracing_to(
    exporter: "SpanExporter", *, ratio: float, service: str, instance: str = ""
) -> Generator["Tracer"]:
    """Trace for the length of the block, and give the spans to an exporter."""
    global tracer  # noqa: PLW0603 (as logging, it is the process's)
    from shared.observability.tracer import Tracer  # noqa: PLC0415 (the extra `tracing`)

    opened = Tracer(exporter, ratio=ratio, service=service, instance=instance)
    before, tracer = tracer, opened
    try:
        yield opened
    finally:
        tracer = before
        # A collector that is silent would hold up whoever waited for it.
        flush = threading.Thread(target=opened.close, name="last spans", daemon=True)
        flush.start()
        flush.join(FLUSHED_WITHIN.total_seconds())
