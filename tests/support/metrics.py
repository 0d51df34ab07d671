"""Reading what the processes of this test count."""

from collections.abc import Generator
from contextlib import contextmanager

from shared.observability.metrics import REGISTRY


def metric(name: str, **labels: str) -> float:
    """Return a series' value; raises `LookupError` when there is none."""
    value = REGISTRY.get_sample_value(name, labels)
    if value is None:
        raise LookupError(f"{name}{labels}")
    return value


@contextmanager
def grows(name: str, *, by: float, **labels: str) -> Generator[None]:
    """Check that a series grows by so much while the block runs; one that is not there is 0."""
    before = REGISTRY.get_sample_value(name, labels) or 0
    yield
    after = REGISTRY.get_sample_value(name, labels) or 0
    assert after - before == by, f"{name}{labels} grew by {after - before}"
