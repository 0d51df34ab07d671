"""The repository as these tests see it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.repository import ROOT, ProductModule, product_modules


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[ProductModule]:
    """Return every module of the product, parsed."""
    found = list(product_modules())
    assert len(found) > 100, "the product was not found, so nothing would be checked"
    return found


@pytest.fixture
def measure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Return what notes a line for the end of the run."""

    def note(line: str) -> None:
        record_property("measure", line)

    return note
