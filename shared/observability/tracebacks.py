"""Where an error happened, without what it says: messages and values may be somebody's data."""

import traceback


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
