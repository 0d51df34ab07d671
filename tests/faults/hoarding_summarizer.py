"""A summarizer that lets go of nothing: `python -m tests.faults.hoarding_summarizer`."""

from collections.abc import Sequence

from services.summarizer.settings import SummarizerSettings
from shared.events import catalog
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.lifecycle import run_service, stop_signal
from shared.observability.logging import configure_logging
from shared.streams.consuming.subscription import Handler
from tests.faults.altered import altered_summarizer

# About what a request's prompt and answer take up, with all that came with them.
KEPT_BYTES = 20_000


class Hoards:
    """A handler that keeps something of every event."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._kept: list[bytes] = []

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        self._kept += [b"x" * KEPT_BYTES for _ in events]
        return await self._handler(events)


async def main() -> None:
    """Run until SIGTERM."""
    settings = SummarizerSettings.load()
    configure_logging(settings.observability, service=catalog.SUMMARIZER)
    async with stop_signal() as stop, altered_summarizer(settings, Hoards):
        await stop.wait()


if __name__ == "__main__":
    run_service(main)
