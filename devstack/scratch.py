"""Directories for tests that every account of the machine may pass through.

The temporary directories of pytest are closed to `nobody`, which PostgreSQL runs as under root.
"""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

EVERYONE_PASSES = 0o755


@contextmanager
def scratch_directory() -> Generator[Path]:
    """A new directory, removed with all it holds at the end."""
    path = Path(tempfile.mkdtemp(prefix="leads-test-"))
    path.chmod(EVERYONE_PASSES)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
