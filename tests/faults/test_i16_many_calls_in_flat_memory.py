"""I16: one process has 500 calls in flight, never more, and the next 500 need no more memory."""

from datetime import timedelta
from pathlib import Path

import pytest

from devstack.standins.groq import GroqFaults, GroqSettings, create_app
from devstack.standins.serving import running
from tests.faults import hoarding_summarizer
from tests.faults.conftest import Figure
from tests.faults.scale import scaled
from tests.faults.summarizers import SUMMARIZER, Summarizers
from tests.support.standin_control import StandInControl

MOST = 500
# Of the last wave so many have to wait until others are done.
TOO_MANY = 100
WAVES = scaled(2, 10)
# Long enough for a whole wave to be there before its first call is answered.
HELD = timedelta(seconds=4)
PATIENCE = timedelta(seconds=30)
GROWTH_MB = 5


class Waves:
    """Requests by the wave, for one process and a model that holds its answers back."""

    def __init__(
        self, summarizers: Summarizers, *, most: int = MOST, module: str = SUMMARIZER
    ) -> None:
        self._summarizers = summarizers
        self._most = most
        self._module = module
        self.asked = 0
        self.at_once = 0
        self.resident_mb: list[float] = []

    async def come(self, number: int) -> None:
        """Ask, and note the process's memory after each wave, and how many calls were at once."""
        model = GroqSettings(faults=GroqFaults(delay=HELD))
        async with (
            running(create_app(model), model) as url,
            self._summarizers.summarizer(
                url, module=self._module, SUMMARY_CONCURRENCY=str(self._most)
            ) as summarizer,
        ):
            for left in reversed(range(number)):
                await self._ask(MOST if left else MOST + TOO_MANY)
                self.resident_mb.append(resident_mb(summarizer.process.pid))
            self.at_once = await StandInControl(str(url)).counter("most_in_flight")

    @property
    def growth_mb(self) -> float:
        """How much more memory the process had after the last wave than after the first."""
        return self.resident_mb[-1] - self.resident_mb[0]

    def check(self) -> None:
        """Fail unless as many calls as wanted were in flight, in the memory of the first wave."""
        seen = (self.at_once, self.growth_mb < GROWTH_MB)
        assert seen == (MOST, True), f"{self.at_once} at once, {self.growth_mb:+.1f} MB"

    async def _ask(self, number: int) -> None:
        self.asked += number
        await self._summarizers.ask(number)
        await self._summarizers.has_ended(self.asked, within=PATIENCE)
        await self._summarizers.is_done(within=PATIENCE)


def resident_mb(pid: int) -> float:
    """Return how much of a process is in memory, by Linux's /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    [kilobytes] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kilobytes) / 1_024


@pytest.mark.long
async def test_500_calls_at_once_in_the_memory_of_the_first(
    summarizers: Summarizers, figure: Figure
) -> None:
    waves = Waves(summarizers)
    await waves.come(WAVES)
    waves.check()
    states = await summarizers.tables.rows(
        "SELECT state, count(*) FROM leads.summary GROUP BY state"
    )
    assert states == [("succeeded", waves.asked)]
    figure(
        f"{waves.asked:,} calls, {waves.at_once} at once: {waves.resident_mb[0]:.0f} MB after the "
        f"first {MOST}, {waves.growth_mb:+.1f} MB after all, 0 lost"
    )


@pytest.mark.long
async def test_control_a_summarizer_without_limit_that_hoards(
    summarizers: Summarizers, figure: Figure
) -> None:
    waves = Waves(summarizers, most=MOST + TOO_MANY, module=hoarding_summarizer.__name__)
    await waves.come(2)
    with pytest.raises(AssertionError, match=r", False\) == \(500, True\)") as failed:
        waves.check()
    assert waves.at_once > MOST
    figure(f"a higher limit, and nothing is let go of: {str(failed.value).splitlines()[0]}")
