"""How an ordered stream is divided: its partitions, and the layouts that it had one after another.

Events with one key are always in one partition, and a partition has one reader at a time
(`ownership`): so they take effect in their order. The number of partitions is fixed for a layout.
A new one is opened when all of the one before it is done, so no key is in two at once.

PostgreSQL keeps the layouts, and Redis a copy, so that publishing needs Redis alone. The copy can
be old: then the streams that it names are sealed, and adding to them fails.
"""

import contextlib
from collections.abc import Sequence
from typing import Protocol, cast

import orjson
import structlog
from redis.asyncio import Redis

from shared.domain.errors import TransientError, UnavailableError
from shared.events.catalog import ORDERED
from shared.events.partitions import DEFAULT_PARTITIONS, Division, Layout
from shared.lua import Key, lua_script
from shared.redis_connections import translated_errors
from shared.settings import SettingsError
from shared.streams.consuming.group import stream_info

log = structlog.get_logger(__name__)

# The greatest id there is: a stream that has it takes no more entries.
_LAST_ID = "18446744073709551615-18446744073709551615"
_IS_SEALED = "exhausted the last possible ID"


class ClosedError(UnavailableError):
    """The stream is being divided anew, which takes as long as its events need to be done."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"{stream} is being divided anew, and takes events again soon")


class PartitionsError(UnavailableError, SettingsError):
    """The process is configured for another number of partitions than the stream has."""

    def __init__(self, stream: str, *, configured: int, actual: int) -> None:
        super().__init__(
            f"STREAM_PARTITIONS: is {configured}, but {stream} has {actual} partitions. Set it to "
            f"{actual}, or leave it empty; to change the stream itself run "
            f"`ops streams partition --to {configured}`"
        )


class DivisionStore(Protocol):
    """Keeps the divisions for good.

    A protocol, since `shared.streams` may not import `shared.storage`, which implements it.
    """

    async def division(self, stream: str) -> Division | None:
        """Return how a stream is divided; None when it never was."""
        ...

    async def divide(
        self, stream: str, *, partitions: int, is_open: bool, number: int = 1
    ) -> Division:
        """Add a layout unless there is one of this number; returns how the stream is divided."""
        ...


class Divisions:
    """How the ordered streams are divided, as this process last heard.

    `while_closed` is for what comes out of the layout before: it goes into the next one, which is
    read once the one before it is done.
    """

    def __init__(
        self,
        redis: Redis,
        store: DivisionStore | None = None,
        *,
        partitions: int | None = None,
        while_closed: bool = False,
    ) -> None:
        self._redis = redis
        self._store = store
        self._partitions = partitions
        self._while_closed = while_closed
        self._known: dict[str, Division] = {}

    async def layout(self, stream: str) -> Layout:
        """Return the layout to publish to; raises `ClosedError` while there is none."""
        division = self._known.get(stream) or await self.refresh(stream)
        if not division.is_open:
            division = await self.refresh(stream)
        if not division.is_open and not self._while_closed:
            raise ClosedError(stream)
        return division.last

    async def check_open(self, stream: str) -> None:
        """Raise `ClosedError` while nothing can be published to a stream that has been divided."""
        if await self.published(stream) is not None:
            await self.layout(stream)

    async def streams_of(self, stream: str) -> Sequence[str]:
        """Return the streams that hold a stream's events: those of all layouts, newest last."""
        if stream not in ORDERED:
            return [stream]
        return (await self.refresh(stream)).names

    async def refresh(self, stream: str) -> Division:
        """Ask anew, Redis first; divides a stream that never was."""
        copy = await self.published(stream)
        if copy is not None:
            self._learn(copy)
            return copy
        if self._store is None:
            raise UnavailableError(f"{stream} has no partitions yet: start a syncer")
        division = await self._store.division(stream)
        if division is None:
            with translated_errors():
                is_new = not await self._redis.exists(stream)
            division = await self._store.divide(
                stream, partitions=self._partitions or DEFAULT_PARTITIONS, is_open=is_new
            )
        await self.publish(division)
        return division

    async def published(self, stream: str) -> Division | None:
        """Return how Redis says that a stream is divided; None when it does not say."""
        with translated_errors():
            copy = await self._redis.get(_key(stream))
        return None if copy is None else _parse(stream, cast("bytes", copy))

    async def publish(self, division: Division) -> None:
        """Tell all processes how a stream is divided now."""
        self._learn(division)
        value = orjson.dumps(
            {
                "partitions": [layout.partitions for layout in division.layouts],
                "open": division.is_open,
            }
        )
        with translated_errors():
            await self._redis.set(_key(division.last.stream), value)
        await ring(self._redis, division.last.stream)

    async def check_settings(self) -> None:
        """Raise `PartitionsError` if this process is configured for another number of partitions.

        While PostgreSQL is away a process begins all the same, and learns of it later.
        """
        if self._store is None or self._partitions is None:
            return
        for stream in ORDERED:
            division = None
            with contextlib.suppress(TransientError):
                division = await self._store.division(stream)
            if division is not None:
                self._check(division)

    def _learn(self, division: Division) -> None:
        stream = division.last.stream
        if stream not in self._known:
            self._check(division)
        self._known[stream] = division

    def _check(self, division: Division) -> None:
        # While the number is being changed, processes with the old one have work to finish.
        accepted = division.layouts[-1:] if division.is_open else division.layouts[-2:]
        numbers = [layout.partitions for layout in accepted]
        if self._partitions is not None and self._partitions not in numbers:
            stream = division.last.stream
            log.error("partitions.misconfigured", stream=stream, configured=self._partitions)
            raise PartitionsError(stream, configured=self._partitions, actual=numbers[-1])


def _key(stream: str) -> str:
    return f"partitions:{stream}"


def _parse(stream: str, copy: bytes) -> Division:
    fields = orjson.loads(copy)
    layouts = [
        Layout(stream, number, partitions)
        for number, partitions in enumerate(fields["partitions"], start=1)
    ]
    return Division(layouts, fields["open"])


def bell_of(stream: str) -> str:
    """Return the stream to which an entry is added when those who share another are to look."""
    return f"bell:{stream}"


async def ring(client: Redis, stream: str) -> str:
    """Have those who share a stream look who else does, and how it is divided.

    Returns the id of what they hear.
    """
    with translated_errors():
        entry = await client.xadd(bell_of(stream), {"rung": ""}, maxlen=1, approximate=False)
    return cast("bytes", entry).decode()


async def seal(client: Redis, stream: str) -> None:
    """Have a stream take no more entries, for good; it is made when it is not there."""
    with translated_errors():
        await seal_stream(client, stream=stream, last_id=_LAST_ID)


@lua_script("""
if redis.call('EXISTS', stream) == 0 then
  redis.call('XGROUP', 'CREATE', stream, 'seal', '$', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', stream, 'seal')
end
redis.call('XSETID', stream, last_id)
""")
def seal_stream(*, stream: Key, last_id: str) -> None:
    """Set the id after which a stream's next entry would come."""
    raise NotImplementedError


async def is_closed_for_good(client: Redis, stream: str) -> bool:
    """Return whether a stream is sealed already."""
    info = await stream_info(client, stream)
    return bool(info) and cast("bytes", info["last-generated-id"]).decode() == _LAST_ID


def is_sealed(error: Exception) -> bool:
    """Return whether adding failed because the stream is sealed."""
    return _IS_SEALED in str(error)
