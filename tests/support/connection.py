"""A client's connection of which a test decides how much it takes."""

import asyncio


class Connection(asyncio.WriteTransport):
    """Keeps what is written; with `unsent` bytes of it still waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.unsent = 0
        self.is_aborted = False

    @property
    def sent(self) -> bytes:
        """All that was written."""
        return b"".join(self.writes)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes."""
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return self.unsent

    def is_closing(self) -> bool:
        """Whether the client has gone."""
        return self.is_aborted

    def abort(self) -> None:
        """Close at once."""
        self.is_aborted = True
