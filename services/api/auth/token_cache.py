"""Tokens found valid before: a look-up by the header as it came, bounded, until they expire."""

from services.api.auth.identity import User
from services.api.auth.tokens import VerifiedToken

GENERATION = 5_000


class TokenCache:
    """Keeps what was used lately, in two generations: a hit costs one look-up and no reordering.

    Holds at most two generations' worth of entries.
    """

    def __init__(self, *, generation: int = GENERATION) -> None:
        self._generation = generation
        self._young: dict[str, VerifiedToken] = {}
        self._old: dict[str, VerifiedToken] = {}

    def get(self, header: str, *, now: float) -> User | None:
        """Return whose header it is, unless it is unknown or expired."""
        verified = self._young.get(header)
        if verified is None:
            verified = self._old.get(header)
            if verified is None:
                return None
            self.put(header, verified)
        return verified.user if verified.expires_at > now else None

    def put(self, header: str, verified: VerifiedToken) -> None:
        """Remember a header."""
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[header] = verified

    def forget(self, header: str) -> None:
        """Forget a header."""
        self._young.pop(header, None)
        self._old.pop(header, None)

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}
