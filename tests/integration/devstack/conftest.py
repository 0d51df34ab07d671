"""A place for servers' data, open to the account PostgreSQL runs as."""

from collections.abc import Generator
from pathlib import Path

import pytest

from devstack.data_directory import scratch_directory


@pytest.fixture
def scratch() -> Generator[Path]:
    with scratch_directory() as path:
        yield path
