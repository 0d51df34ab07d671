"""What runs in an API process: its gateway and the server."""

import logging

import structlog

from services.api.bootstrap import API, Api, bootstrap
from services.api.console.serving import Console
from services.api.server.gateway import Cors, Gateway
from services.api.server.routing import Router, routes_of
from services.api.server.server import serving
from services.api.settings import ApiSettings
from shared.lifecycle import instance_name, stop_signal
from shared.observability.health import serve_health
from shared.observability.logging import configure_logging
from shared.observability.tracing import traced

log = structlog.get_logger(__name__)


async def main() -> None:
    """Read the settings and serve until SIGTERM or SIGINT."""
    settings = ApiSettings.load()
    name = instance_name(API)
    configure_logging(settings.observability, service=API, instance=name)
    with traced(settings.observability, service=API, instance=name):
        async with stop_signal() as stop, bootstrap(settings, name=name) as api:
            gateway = create_gateway(api, settings)
            serving_api = serving(
                gateway,
                settings.http,
                announce_end=api.health.announce_end,
                stop_waiting=api.exchange.stop_waiting,
            )
            async with serve_health(settings.observability, {}), serving_api as port:
                log.info("api.started", port=port)
                await stop.wait()
    log.info("api.stopped")


def create_gateway(api: Api, settings: ApiSettings) -> Gateway:
    """Join the routes with what every request passes before them."""
    return Gateway(
        Router([*routes_of(*api.handlers), *Console.of_this_release().routes()]),
        api.verifier,
        cors=Cors(settings.http.cors_accepted_origins),
        limits=api.limits,
        operator_key=settings.http.operator_key,
        request_timeout=settings.http.request_timeout,
        logs_reads=logging.getLogger().isEnabledFor(logging.DEBUG),
        on_drain=api.changes.close,
        unknown=settings.http.unknown_fields,
    )
