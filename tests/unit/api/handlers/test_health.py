"""Whether the API can do its work is looked at again, sooner while it cannot."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.api.handlers.health import GOOD_FOR, HealthHandlers
from shared.domain.errors import UnavailableError
from shared.observability.outages import Outages
from tests.support.eventually import eventually


class Check:
    """Fails the first times it is asked."""

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self.asked = 0

    async def __call__(self) -> None:
        self.asked += 1
        if self.asked <= self._failures:
            raise UnavailableError("away", dependency="postgres")


async def status_of(handlers: HealthHandlers) -> int:
    ready: Any = handlers.ready
    return int((await ready(None)).status)


def handlers_of(check: Check) -> HealthHandlers:
    async def passes() -> None: ...
    async def tell(_reasons: Sequence[str]) -> None: ...

    return HealthHandlers(
        {"postgres": check}, {}, Outages(), own=passes, tell=tell, starting=timedelta(hours=1)
    )


@pytest.mark.parametrize("failures", [1, 2])
async def test_who_is_not_ready_is_looked_at_again_soon(failures: int) -> None:
    handlers, begun = handlers_of(Check(failures)), time.monotonic()

    async def is_ready() -> bool:
        return await status_of(handlers) == 200

    assert not await is_ready()
    await eventually(is_ready)
    assert time.monotonic() - begun < GOOD_FOR.total_seconds()


async def test_who_is_ready_is_not_asked_each_time() -> None:
    check = Check(0)
    handlers = handlers_of(check)
    assert [await status_of(handlers) for _ in range(5)] == [200] * 5
    assert check.asked == 1
