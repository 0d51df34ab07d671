"""Where an error happened, without what it says: messages and values may be somebody's data."""

import traceback

from shared.domain.errors import PermanentError, TransientError


def told(error: BaseException) -> str:
    """Return an error for the log: our own with their message, of others only the type."""
    if isinstance(error, PermanentError | TransientError):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__


def frames(error: BaseException | None) -> list[str]:
    """Return the error's type and its places as `file:line function`, cause by cause."""
    found: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        found.append(type(error).__name__)
        found += [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        error = error.__cause__ or error.__context__
    return found
