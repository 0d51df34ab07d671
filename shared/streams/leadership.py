"""A lease that one process at a time holds, for chores that need only one."""

from datetime import timedelta

from redis.asyncio import Redis

from shared.streams.connection import translated_errors
from shared.streams.group import milliseconds

_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class Leadership:
    """The chores done under it must be harmless when two processes do them for a moment."""

    def __init__(self, redis: Redis, *, chore: str, holder: str, lease: timedelta) -> None:
        self._key = f"leader:{chore}"
        self._holder = holder
        self._lease = lease
        self._hold = redis.register_script(_HOLD)

    async def hold(self) -> bool:
        """Take or renew the lease; False when another process has it."""
        with translated_errors():
            return bool(
                await self._hold(keys=[self._key], args=[self._holder, milliseconds(self._lease)])
            )
