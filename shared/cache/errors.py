"""The cache's errors in the domain's terms."""

import contextlib
from collections.abc import Generator

import redis

from shared.domain.errors import UnavailableError


@contextlib.contextmanager
def translated_errors() -> Generator[None]:
    """Raise `UnavailableError` for whatever goes wrong."""
    try:
        yield
    except (OSError, redis.RedisError) as error:
        raise UnavailableError(f"The cache is unavailable: {error}") from error
