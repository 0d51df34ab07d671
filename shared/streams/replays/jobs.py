"""Replays as Redis keeps them: the order, how far it has come, and how its events ended.

The position moves when the entries up to it are added. A replay that was cut short in between adds
them again, under the same numbers: they are applied once, and counted once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import cast

from pydantic import TypeAdapter
from redis.asyncio import Redis

from shared.domain.errors import PermanentError
from shared.events.replay import EventFields, ReplayOrder, ReplayPage
from shared.lua import Key, lua_script
from shared.redis_connections import then, translated_errors
from shared.streams.codec import entry_id, for_group
from shared.streams.consuming.group import finished_before
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import Addressed, add_entries
from shared.streams.replays.tally import REMEMBERED, ReplayResult, add_results, read_tally

INDEX = "replays"
REMEMBERED_JOBS = 100
# So many copies are looked at once.
COPIES_PAGE = 1_000

_ORDER: TypeAdapter[ReplayOrder] = TypeAdapter(ReplayOrder)


class ReplayState(StrEnum):
    """How far a replay has come: adding entries, all of them added, over, or not to go on."""

    ADDING = "adding"
    ADDED = "added"
    FINISHED = "finished"
    CANCELLED = "cancelled"


ALL_ADDED = (ReplayState.ADDED, ReplayState.FINISHED)
CANCELLABLE = (ReplayState.ADDING, ReplayState.ADDED, ReplayState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """What a replay has read and added, and what consumers report of it.

    `planned` is how many events there are to add in all, None until that is counted.
    """

    state: ReplayState
    position: str | None
    planned: int | None
    examined: int
    added: int
    results: Mapping[ReplayResult, int]

    @property
    def settled(self) -> int:
        """How many of the added events have come to an end."""
        return sum(self.results.values())

    @property
    def outstanding(self) -> int:
        """How many of the added events no consumer has reported on yet."""
        return max(0, self.added - self.settled)


class ReplayJobs:
    """Orders by replay id, the latest hundred of them, and where each replay is."""

    def __init__(self, client: Redis, divisions: Divisions | None = None) -> None:
        self._redis = client
        self._divisions = divisions or Divisions(client)

    async def save(self, order: ReplayOrder) -> None:
        """Keep a new order."""
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(
                    _key(order.id),
                    mapping={"order": _ORDER.dump_json(order), "state": ReplayState.ADDING},
                )
                pipeline.expire(_key(order.id), REMEMBERED)
                pipeline.zadd(INDEX, {order.id: order.ordered_at.timestamp()})
                pipeline.zremrangebyrank(INDEX, 0, -REMEMBERED_JOBS - 1)
                await pipeline.execute()

    async def find_order(self, replay_id: str) -> ReplayOrder | None:
        """Return an order that was kept."""
        with translated_errors():
            order = await self._redis.hget(_key(replay_id), "order")
        return None if order is None else _ORDER.validate_json(cast("bytes", order))

    async def recent(self) -> list[ReplayOrder]:
        """Return the latest orders that are still kept, newest first."""
        with translated_errors():
            ids = cast("list[bytes]", await self._redis.zrevrange(INDEX, 0, -1))
        orders = [await self.find_order(replay_id.decode()) for replay_id in ids]
        return [order for order in orders if order is not None]

    async def progress(self, replay_id: str) -> ReplayProgress:
        """Return how far a replay has come."""
        with translated_errors():
            fields = cast("Mapping[bytes, bytes]", await self._redis.hgetall(_key(replay_id)))
        position = fields.get(b"position")
        state = ReplayState(fields.get(b"state", b"adding").decode())
        added = int(fields.get(b"added", 0))
        # Of one that has added them all it is known, also when it was faster than the counting.
        planned = added if state in ALL_ADDED else fields.get(b"planned")
        return ReplayProgress(
            state=state,
            position=None if position is None else position.decode(),
            planned=None if planned is None else int(planned),
            examined=int(fields.get(b"examined", 0)),
            added=added,
            results=await read_tally(self._redis, replay_id),
        )

    async def note_planned(self, replay_id: str, planned: int) -> None:
        """Note how many events a replay will add."""
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(_key(replay_id), "planned", str(planned))
                pipeline.expire(_key(replay_id), REMEMBERED)
                await pipeline.execute()

    async def note_added(self, replay_id: str) -> None:
        """Note that all is added, unless the replay was cancelled."""
        await self._move(replay_id, ReplayState.ADDED, out_of=[ReplayState.ADDING])

    async def note_finished(self, replay_id: str) -> None:
        """Note that a replay is over, unless it was cancelled."""
        await self._move(replay_id, ReplayState.FINISHED, out_of=[ReplayState.ADDED])

    async def cancel(self, replay_id: str) -> bool:
        """Have a replay add nothing more, whichever process runs it; False when it is over.

        A page that is being added is added to its end.
        """
        return await self._move(replay_id, ReplayState.CANCELLED, out_of=CANCELLABLE)

    async def revive(self, replay_id: str) -> None:
        """Let a replay that was cancelled be run again."""
        await self._move(replay_id, ReplayState.ADDING, out_of=[ReplayState.CANCELLED])

    async def _move(
        self, replay_id: str, state: ReplayState, *, out_of: Sequence[ReplayState]
    ) -> bool:
        with translated_errors():
            return await move_state(self._redis, replay=_key(replay_id), state=state, out_of=out_of)

    async def add_page(
        self, order: ReplayOrder, page: ReplayPage, *, after: str | None
    ) -> Sequence[tuple[str, str]]:
        """Add a page's events, count the others, then move the position there from `after`.

        Returns where each entry is: its stream and its id. Raises `PermanentError` with code
        `replay-moved` when the position is another one by now.
        """
        progress = await self.progress(order.id)
        if progress.position != after:
            raise _moved(order.id)
        places = (place for place in range(page.size) if place not in page.there)
        entries = [
            _to_entry(order, fields, progress.added + place)
            for place, fields in zip(places, page.events, strict=True)
        ]
        if page.there:
            await self._count_there(order, [progress.added + place for place in page.there])
        added = await add_entries(self._redis, entries, self._divisions)
        with translated_errors():
            is_moved = await move_position(
                self._redis,
                replay=_key(order.id),
                after=after or "",
                position=page.position,
                added=page.size,
                examined=page.examined,
                remembered=REMEMBERED,
            )
        if not is_moved:
            raise _moved(order.id)
        return added

    async def _count_there(self, order: ReplayOrder, numbers: Sequence[int]) -> None:
        """Count events that have their effect, as the group would."""
        result = ReplayResult.ALREADY_APPLIED
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                add_results(pipeline, [(order.id, number, result) for number in numbers])
                await pipeline.execute()


@lua_script("""
if (redis.call('HGET', replay, 'position') or '') ~= after then return 0 end
redis.call('HSET', replay, 'position', position)
redis.call('HINCRBY', replay, 'added', added)
redis.call('HINCRBY', replay, 'examined', examined)
redis.call('PEXPIRE', replay, remembered)
return 1
""")
def move_position(
    *, replay: Key, after: str, position: str, added: int, examined: int, remembered: timedelta
) -> bool:
    """Move a replay's position and add to its counts; false when it is not at `after`."""
    raise NotImplementedError


@lua_script("""
local now = redis.call('HGET', replay, 'state')
for _, one in ipairs(out_of) do
  if one == now then
    redis.call('HSET', replay, 'state', state)
    return 1
  end
end
return 0
""")
def move_state(*, replay: Key, state: str, out_of: Sequence[str]) -> bool:
    """Note a replay's state if it is in one of those; returns whether it was."""
    raise NotImplementedError


def _to_entry(order: ReplayOrder, fields: EventFields, number: int) -> Addressed:
    entry = for_group(
        fields,
        group=order.group,
        replay_id=order.id,
        number=number,
        with_model=order.with_model,
    )
    key = fields.get(b"partitionkey", fields.get(b"subject", b""))
    return order.stream, key.decode(), entry


def _moved(replay_id: str) -> PermanentError:
    return PermanentError(
        f"Replay {replay_id} is being run by another process", code="replay-moved"
    )


def _key(replay_id: str) -> str:
    return f"replay:{replay_id}"


# What replays have put back leaves the streams once it is done with: a million copies would crowd a
# stream's own history out of its bound. They are noted beside the stream, so that a replay that was
# interrupted leaves none for good: consumers' housekeeping removes what it does not get to.


async def note_copies(redis: Redis, entries: Sequence[tuple[str, str]]) -> None:
    """Note entries, streams and ids, in the order in which they were added."""
    by_stream: defaultdict[str, list[str]] = defaultdict(list)
    for stream, added in entries:
        by_stream[stream].append(added)
    with translated_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            for stream, ids in by_stream.items():
                pipeline.rpush(_copies_key(stream), *ids)
            await pipeline.execute()


async def remove_copies(redis: Redis, stream: str) -> bool:
    """Remove the copies that all groups have finished; returns whether some are left.

    Only what is before every group is removed: a deletion ahead of a group would leave Redis
    unable to tell its lag.
    """
    while ids := await _noted(redis, stream):
        boundary = await finished_before(redis, stream)
        finished = [one for one in ids if entry_id(one) < boundary]
        if not finished:
            return True
        with translated_errors():
            async with redis.pipeline(transaction=False) as pipeline:
                pipeline.xdel(stream, *finished)
                then(pipeline)
                # Nearly always the first ones; others may be looking at them, too.
                for one in finished:
                    pipeline.lrem(_copies_key(stream), 1, one)
                await pipeline.execute()
    return False


async def _noted(redis: Redis, stream: str) -> list[str]:
    with translated_errors():
        noted = cast("list[bytes]", await redis.lrange(_copies_key(stream), 0, COPIES_PAGE - 1))
    return [one.decode() for one in noted]


def _copies_key(stream: str) -> str:
    return f"copies:{stream}"
