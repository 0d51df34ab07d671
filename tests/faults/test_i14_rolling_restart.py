"""I14: SIGTERM loses nothing and ends in ten seconds: a rolling restart fails no request."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from shared.background import background
from tests.faults.clients import Answer, Clients, clients_of
from tests.faults.conftest import Figure
from tests.faults.scale import FULL, scaled
from tests.faults.system import APIS, SERVICES, SUMMARIZER, SYNCERS, System
from tests.faults.test_i01_accepted_is_kept import check_all_there
from tests.support.builders import lead_body

# One of each kind, or all of them again and again.
RESTARTED = list(SERVICES) * 10 if FULL else [SYNCERS[0], SUMMARIZER, APIS[0]]
CALLERS = scaled(4, 16)
LONGEST_END = timedelta(seconds=10)
SETTLED = timedelta(seconds=30)


class Traffic:
    """Callers that create, read and have summaries written, and never ask twice."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self.statuses: Counter[str] = Counter()
        self.accepted: list[str] = []

    @property
    def failed(self) -> dict[str, int]:
        """The requests that were not answered, or by a 5xx."""
        return {name: n for name, n in self.statuses.items() if name.startswith(("None", "5"))}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CALLERS):
                tasks.create_task(self._call(), name=f"caller {number}")

    async def _call(self) -> None:
        while True:
            body: dict[str, Any] = lead_body()
            created = self._note("create", await self._clients.create(body))
            if created is None or created.status != 201:
                continue
            self.accepted.append(body["email"])
            path = f"/leads/{created.body['id']}"
            self._note("read", await self._clients.ask("GET", path))
            self._note("summary", await self._clients.ask("POST", f"{path}/summary"))

    def _note(self, what: str, answer: Answer | None) -> Answer | None:
        self.statuses[f"{answer.status if answer else None} {what}"] += 1
        return answer


async def restart(system: System, name: str, how: signal.Signals) -> timedelta:
    """End a service by a signal and start it again; returns how long its end took."""
    began = time.monotonic()
    system.signal(name, how)
    code = await system.services[name].wait()
    took = timedelta(seconds=time.monotonic() - began)
    assert code == (0 if how is signal.SIGTERM else -how)
    await system.start(name)
    await system.ready([name])
    return took


async def check_rolling_restart(
    system: System, clients: Clients, names: Sequence[str], how: signal.Signals
) -> tuple[int, timedelta]:
    """Restart services one after another under load; fail if a request did.

    Returns how many requests were answered, and how long the slowest end took.
    """
    traffic = Traffic(clients)
    async with background(traffic.run(), name="traffic"):
        took = [await restart(system, name, how) for name in names]
    assert traffic.failed == {}, f"failed: {traffic.failed}"
    await check_all_there(system, traffic.accepted, within=SETTLED)
    return traffic.statuses.total(), max(took)


async def test_a_rolling_restart_fails_no_request(
    system: System, chance: random.Random, figure: Figure
) -> None:
    async with clients_of(system, chance) as clients:
        requests, slowest = await check_rolling_restart(system, clients, RESTARTED, signal.SIGTERM)
    assert slowest < LONGEST_END
    figure(
        f"{len(RESTARTED)} SIGTERMs under {requests:,} requests: 0 failed, "
        f"slowest end {slowest.total_seconds():.1f} s"
    )


@pytest.mark.long
async def test_control_sigkill_fails_requests(
    system: System, chance: random.Random, figure: Figure
) -> None:
    async with clients_of(system, chance) as clients:
        with pytest.raises(AssertionError, match="failed: "):
            # Several, since a single one may fall between two requests.
            await check_rolling_restart(system, clients, list(APIS) * 3, signal.SIGKILL)
    figure("SIGKILL in SIGTERM's place: requests fail")
