"""When the circuit of a consumer opens and closes."""

from datetime import timedelta

from shared.domain.errors import UnavailableError
from shared.observability.outages import Outages
from shared.streams.consuming.health import FEWEST, ConsumerCircuit, Progress


def test_a_few_bad_events_in_a_quiet_hour_do_not_open_it() -> None:
    circuit = ConsumerCircuit(stream="stream:tests", group="tests")
    for _attempt in range(10):
        for number in range(FEWEST - 1):
            circuit.failed(f"event {number}")
    assert not circuit.is_open


def test_it_opens_when_nearly_all_fail_and_closes_with_a_success() -> None:
    circuit = ConsumerCircuit(stream="stream:tests", group="tests")
    for number in range(100):
        circuit.succeeded(f"good {number}")
    for number in range(44):
        circuit.failed(f"bad {number}")
    assert not circuit.is_open
    circuit.failed("bad 45")
    assert circuit.is_open
    circuit.succeeded("good again")
    assert not circuit.is_open


async def test_what_a_consumer_waits_for_is_told_unless_it_is_redis_alone() -> None:
    progress = Progress("stream:leads", Outages(quiet=timedelta(0)))
    redis = UnavailableError("Redis is unavailable", dependency="redis")
    progress.hold("reading", redis)
    assert progress.waits_for_redis
    assert "Redis is unavailable" in str(progress.trouble(timeout=timedelta(seconds=1)))
    progress.hold("handling", UnavailableError("PostgreSQL is unavailable", dependency="postgres"))
    assert not progress.waits_for_redis
    progress.release("reading")
    progress.release("handling")
    assert not progress.waits_for_redis
    assert progress.trouble(timeout=timedelta(seconds=1)) is None
