"""`python -m tests.support.fast_exporter`: the exporter, reading every second or two."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from ops.exporter.process import open_sources
from ops.exporter.readings import Readings, Samples, Source
from ops.exporter.settings import ExporterSettings
from shared.lifecycle import instance_name, run_service, stop_signal
from shared.observability.health import serve_health
from shared.observability.logging import configure_logging
from shared.observability.metrics import exported
from shared.observability.outages import Outages

# An owner's beat moves in between.
EVERY = timedelta(seconds=1.5)


@dataclass(frozen=True, slots=True)
class Faster:
    """A source that is read more often."""

    source: Source
    name: str
    every: timedelta = EVERY

    async def read(self, samples: Samples) -> None:
        await self.source.read(samples)


async def main() -> None:
    """Run until SIGTERM."""
    settings = ExporterSettings.load()
    configure_logging(
        settings.observability, service="exporter", instance=instance_name("exporter")
    )
    async with stop_signal() as stop, open_sources(settings) as sources:
        # The doctor takes its time, and no alert goes by what he finds.
        faster = [Faster(one, one.name) for one in sources if one.name != "doctor"]
        readings = Readings(faster, outages=Outages())
        with exported(readings):
            async with serve_health(settings.observability, {"rounds": readings.check}):
                tasks = [
                    asyncio.create_task(readings.keep_reading(one.name), name=one.name)
                    for one in faster
                ]
                await stop.wait()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    run_service(main)
