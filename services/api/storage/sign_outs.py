"""Sessions that were ended before their access tokens expire, known to every process."""

from datetime import timedelta

from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.redis_connections import translated_errors

# No access token of Supabase's lives longer.
TIME_TO_LIVE = timedelta(days=7)


class SignOuts:
    """Keeps the names of sessions that are over."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note_session(self, session: str) -> None:
        """Note that a session is over."""
        with translated_errors():
            await self._redis.set(_key(session), b"", ex=TIME_TO_LIVE)

    async def is_over(self, session: str) -> bool:
        """Whether a session is known to be over: without Redis, none is."""
        try:
            with translated_errors():
                return bool(await self._redis.exists(_key(session)))
        except UnavailableError:
            return False


def _key(session: str) -> str:
    return f"signed-out:{session}"
