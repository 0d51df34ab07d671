"""Replays as Redis keeps them: the order, how far it has come, and how its events ended.

The position moves in the same transaction that adds the entries. So a replay that was cut
short goes on exactly where it stopped, and one whose entries were lost with Redis has lost
its position too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import redis
from pydantic import TypeAdapter
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT

from shared.domain.errors import PermanentError
from shared.events.replay import EventFields, ReplayOrder, ReplayPage
from shared.redis_connections import translated_errors
from shared.streams.codec import for_group
from shared.streams.replays.tally import REMEMBERED, ReplayResult, read_tally

INDEX = "replays"
REMEMBERED_JOBS = 100

_ORDER: TypeAdapter[ReplayOrder] = TypeAdapter(ReplayOrder)


class ReplayState(StrEnum):
    """How far a replay has come: adding entries, all of them added, or over."""

    ADDING = "adding"
    ADDED = "added"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """What a replay has read and added, and what consumers report of it."""

    state: ReplayState
    position: str | None
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

    def __init__(self, client: Redis) -> None:
        self._redis = client

    async def save(self, order: ReplayOrder) -> None:
        """Keep a new order."""
        with translated_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
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
        return ReplayProgress(
            state=ReplayState(fields.get(b"state", b"adding").decode()),
            position=None if position is None else position.decode(),
            examined=int(fields.get(b"examined", 0)),
            added=int(fields.get(b"added", 0)),
            results=await read_tally(self._redis, replay_id),
        )

    async def set_state(self, replay_id: str, state: ReplayState) -> None:
        """Note how far a replay has come."""
        with translated_errors():
            await self._redis.hset(_key(replay_id), "state", state)

    async def add_page(
        self, order: ReplayOrder, page: ReplayPage, *, after: str | None
    ) -> Sequence[str]:
        """Add a page's events and move the position there from `after`: both or neither.

        Returns the entry ids. Raises `PermanentError` with code `replay-moved` when the
        position is another one by now.
        """
        key = _key(order.id)
        try:
            with translated_errors():
                async with self._redis.pipeline(transaction=True) as pipeline:
                    await pipeline.watch(key)
                    position = cast("bytes | None", await pipeline.hget(key, "position"))
                    if (None if position is None else position.decode()) != after:
                        raise _moved(order.id)
                    pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py's has no types
                    for fields in page.events:
                        pipeline.xadd(order.stream, _addressed(order, fields))
                    pipeline.hset(key, "position", page.position)
                    pipeline.hincrby(key, "added", len(page.events))
                    pipeline.hincrby(key, "examined", page.examined)
                    pipeline.expire(key, REMEMBERED)
                    replies = await pipeline.execute()
        except redis.WatchError as error:
            raise _moved(order.id) from error
        return [entry_id.decode() for entry_id in replies[: len(page.events)]]


def _addressed(order: ReplayOrder, fields: EventFields) -> dict[FieldT, EncodableT]:
    return for_group(fields, group=order.group, replay_id=order.id, with_model=order.with_model)


def _moved(replay_id: str) -> PermanentError:
    return PermanentError(
        f"Replay {replay_id} is being run by another process", code="replay-moved"
    )


def _key(replay_id: str) -> str:
    return f"replay:{replay_id}"
