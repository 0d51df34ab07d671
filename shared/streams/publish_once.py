"""Publishing a set of events at most once under a name, whoever tries."""

from collections.abc import Sequence
from datetime import timedelta
from typing import cast

from redis.asyncio import Redis

from shared.events.catalog import stream_of
from shared.events.envelope import Event
from shared.streams.codec import encode, flatten
from shared.streams.connection import translated_errors
from shared.streams.group import milliseconds

# Longer than any process can sleep and still wake up to try again.
REMEMBERED = timedelta(days=1)

# All or nothing: a process that died half-way would leave the name taken.
_PUBLISH = """
local first = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if not first then return redis.call('GET', KEYS[1]) end
for i = 3, #ARGV do redis.call('XADD', KEYS[2], '*', unpack(cjson.decode(ARGV[i]))) end
return ARGV[1]
"""


class OncePublisher:
    """Raises `UnavailableError` when Redis is down; trying again is always safe."""

    def __init__(self, redis: Redis) -> None:
        self._publish = redis.register_script(_PUBLISH)

    async def publish(self, name: str, events: Sequence[Event]) -> list[str]:
        """Add the events unless the name is taken; returns the ids of those published under it.

        The events must belong to one stream.
        """
        if not events:
            return []
        ids = ",".join(str(event.id) for event in events)
        entries = [flatten(encode(event)) for event in events]
        with translated_errors():
            published = await self._publish(
                keys=[f"once:{name}", stream_of(events[0].data)],
                args=[ids, milliseconds(REMEMBERED), *entries],
            )
        return cast("bytes", published).decode().split(",")
