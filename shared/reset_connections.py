"""uvloop's word for a connection that was reset, in asyncio's."""

import contextlib
from collections.abc import Generator

_CLOSED = "the handler is closed"


@contextlib.contextmanager
def as_reset_error() -> Generator[None]:
    """Raise `ConnectionResetError` for a write to a connection that was reset a moment ago.

    uvloop raises a plain `RuntimeError` there, which neither driver expects: it would end
    the process.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).endswith(_CLOSED):
            raise
        raise ConnectionResetError("The connection was reset") from error
