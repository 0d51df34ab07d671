"""The repository as these tests see it."""

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
