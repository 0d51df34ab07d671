"""The cache's errors in the domain's terms."""

import contextlib
from collections.abc import Generator

import redis

from shared.domain.errors import UnavailableError
from shared.reset_connections import as_reset_error

UNAVAILABLE = (OSError, redis.RedisError)


@contextlib.contextmanager
def translated_errors() -> Generator[None]:
    """Raise `UnavailableError` for whatever goes wrong."""
    try:
        with as_reset_error():
            yield
    except UNAVAILABLE as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> UnavailableError:
    """Return what a driver's error means."""
    return UnavailableError(f"The cache is unavailable: {error}")
