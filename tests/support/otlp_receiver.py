"""A collector of traces: takes OTLP over HTTP, and keeps the spans."""

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.eventually import eventually

LONG = timedelta(seconds=30)  # a busy machine


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it was sent; ids are in hexadecimal digits."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: frozenset[tuple[str, str]]
    attributes: dict[str, Any]


@dataclass(slots=True)
class OtlpReceiver:
    """What has come in at `url`."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list[ReceivedSpan])
    bodies: list[bytes] = field(default_factory=list[bytes])
    headers: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])

    def named(self, name: str, *, trace: str | None = None) -> list[ReceivedSpan]:
        """Return the spans of a name, in one trace or in all."""
        return [one for one in self.spans if one.name == name and trace in {None, one.trace}]

    async def has(
        self, name: str, *, times: int = 1, trace: str | None = None
    ) -> Sequence[ReceivedSpan]:
        """Return the spans of a name once so many have come."""

        async def are_there() -> bool:
            return len(self.named(name, trace=trace)) >= times

        await eventually(are_there, within=LONG)
        return self.named(name, trace=trace)

    async def take(self, request: web.Request) -> web.Response:
        """Keep what a process exports."""
        body = await request.read()
        self.bodies.append(body)
        self.headers.append(request.headers)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            self.spans += [
                _span(service, span) for scope in resource.scope_spans for span in scope.spans
            ]
        return web.Response(content_type="application/x-protobuf")


@contextlib.asynccontextmanager
async def otlp_receiver() -> AsyncGenerator[OtlpReceiver]:
    """Receive traces for the length of the block."""
    receiver = OtlpReceiver()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()


def _span(service: str, span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        service=service,
        name=span.name,
        kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_values(span.attributes),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
