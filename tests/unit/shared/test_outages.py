"""An outage is logged once when it begins and once when it ends."""

import asyncio
from datetime import timedelta
from typing import Any

from structlog.testing import capture_logs

from shared.domain.errors import TransientError, UnavailableError
from shared.observability.outages import Outages
from tests.support.eventually import eventually
from tests.support.outage_log import outage_lines

REDIS = UnavailableError("Redis is unavailable: refused", dependency="redis")
POSTGRES = UnavailableError("PostgreSQL is unavailable: refused", dependency="postgres")


async def test_several_activities_wait_for_one_server() -> None:
    outages = Outages(quiet=timedelta(0))
    with capture_logs() as logs:
        for _ in range(3):
            outages.failed("reading", REDIS)
            outages.failed("publishing", REDIS)
        outages.worked("reading")
        await asyncio.sleep(0)
        assert outage_lines(logs) == [("began", "redis")]
        outages.worked("publishing")
        await eventually(lambda: has(logs, 2))
    assert outage_lines(logs) == [("began", "redis"), ("ended", "redis")]
    [began] = [one for one in logs if one["event"] == "outage.began"]
    assert began["effect"]
    assert began["do"] == "ops doctor"


async def test_each_server_has_its_own() -> None:
    outages = Outages(quiet=timedelta(0))
    with capture_logs() as logs:
        outages.failed("handling", REDIS)
        outages.failed("handling", POSTGRES)
        outages.failed("circuit", TransientError("nearly everything fails"))
        outages.worked("handling")
        await eventually(lambda: has(logs, 5))
    assert outage_lines(logs)[:3] == [
        ("began", "redis"),
        ("began", "postgres"),
        ("began", "circuit"),
    ]
    assert {what for _, what in outage_lines(logs)[3:]} == {"redis", "postgres"}


async def test_what_fails_and_works_by_turns_is_one_outage() -> None:
    outages = Outages(quiet=timedelta(milliseconds=50))
    with capture_logs() as logs:
        for _ in range(20):
            outages.failed("reading", REDIS)
            outages.worked("reading")
        await eventually(lambda: has(logs, 2))
    assert outage_lines(logs) == [("began", "redis"), ("ended", "redis")]


async def has(logs: list[Any], number: int) -> bool:
    return len(outage_lines(logs)) == number
