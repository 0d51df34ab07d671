"""What runs in an API process: its gateway and the server."""

import logging

import structlog

from services.api.bootstrap import bootstrap
from services.api.context import ApiContext
from services.api.endpoints import routes
from services.api.server.cors import Cors
from services.api.server.gateway import Gateway
from services.api.server.routing import Router
from services.api.server.server import serving
from services.api.settings import ApiSettings
from shared.lifecycle import stop_signal
from shared.observability.logging import configure_logging

log = structlog.get_logger(__name__)


async def main() -> None:
    """Read the settings and serve until SIGTERM or SIGINT."""
    settings = ApiSettings.load()
    configure_logging(settings.observability, service="api")
    async with stop_signal() as stop, bootstrap(settings) as context:
        gateway = create_gateway(context, settings)
        async with serving(
            gateway, settings.http, stop_waiting=context.exchange.stop_waiting
        ) as port:
            log.info("api.started", port=port)
            await stop.wait()
    log.info("api.stopped")


def create_gateway(context: ApiContext, settings: ApiSettings) -> Gateway:
    """Join the routes and what stands before them."""
    return Gateway(
        Router(routes(context)),
        context.verifier,
        cors=Cors(settings.http.cors_accepted_origins),
        limits=context.limits,
        operator_key=settings.http.operator_key,
        request_timeout=settings.http.request_timeout,
        logs_reads=logging.getLogger().isEnabledFor(logging.DEBUG),
        on_drain=context.feed.close,
    )
