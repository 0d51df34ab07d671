"""What is known of an ordered stream's partitions and of those who share them, for onlookers."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.events.partitions import Division, Layout, Member, Partition, Survey
from shared.streams.ordering.layout import ring

# Members show a sign of life every second; those at rest, within one when the bell is rung.
WATCH = timedelta(seconds=3)
LOOK_EVERY = timedelta(milliseconds=100)
NOBODY = UUID(int=0)


class Surveyor(Protocol):
    """Knows who owns what.

    A protocol, since `shared.streams` may not import `shared.storage`, which implements it.
    """

    async def survey(self, stream: str, *, beat: Member | None = None) -> Survey:
        """Return all members, and how a stream is divided among them; `beat` shows that one lives.

        What it shows may be from before that.
        """
        ...

    async def count_held(self, stream: str) -> dict[tuple[int, int], int]:
        """Return how many entries are held, by layout and partition."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """One partition; `name` is its stream, `lag` how many entries come after its position.

    `owner` is a member's name. It, `epoch` and `held` are None also while PostgreSQL is away.
    `handled_per_second` is None unless the partition was watched.
    """

    name: str
    layout: int
    number: int
    owner: str | None
    epoch: int | None
    position: str | None
    lag: int | None
    held: int | None
    handled_per_second: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What PostgreSQL knows of an ordered stream."""

    members: Mapping[UUID, Member]
    partitions: Mapping[tuple[int, int], Partition]
    held: Mapping[tuple[int, int], int]


def partition_state(
    known: Overview | None,
    layout: Layout,
    number: int,
    *,
    shown: str | None,
    lag: int | None,
    handled_per_second: float | None,
) -> PartitionState:
    """Return the state of a partition; `shown` is the position that Redis shows."""
    key = (layout.number, number)
    row = None if known is None else known.partitions.get(key)
    owner = None if known is None or row is None else known.members.get(row.owner or NOBODY)
    return PartitionState(
        name=layout.name(number),
        layout=layout.number,
        number=number,
        owner=None if owner is None else owner.name,
        epoch=None if row is None else row.epoch,
        position=shown if row is None else row.position,
        lag=lag,
        held=None if known is None else known.held.get(key, 0),
        handled_per_second=handled_per_second,
    )


async def overview(store: Surveyor, stream: str) -> Overview:
    """Ask PostgreSQL about a stream. Raises `TransientError`."""
    survey = await store.survey(stream)
    return Overview(
        {member.token: member for member in survey.members},
        {(row.layout, row.number): row for row in survey.partitions},
        await store.count_held(stream),
    )


async def ask_for_signs(client: Redis, stream: str) -> None:
    """Have those who share a stream show a sign of life within a second.

    Who does not hear it, as where Redis is away, shows one every second.
    """
    with contextlib.suppress(UnavailableError):
        await ring(client, stream)


async def living_members(
    store: Surveyor, client: Redis, stream: str, *, within: timedelta = WATCH
) -> frozenset[UUID]:
    """Return the members that show a sign of life; as soon as all have. Raises `TransientError`."""
    first = {member.token: member.beat for member in (await store.survey(stream)).members}
    await ask_for_signs(client, stream)
    deadline = time.monotonic() + within.total_seconds()
    while True:
        await asyncio.sleep(LOOK_EVERY.total_seconds())
        members = (await store.survey(stream)).members
        living = frozenset(one.token for one in members if first.get(one.token) != one.beat)
        if len(living) == len(members) or time.monotonic() > deadline:
            return living


def in_use(division: Division) -> Layout | None:
    """Return the layout that is worked on; None while it is the undivided stream of before."""
    if division.is_open:
        return division.last
    return division.layouts[-2] if len(division.layouts) > 1 else None
