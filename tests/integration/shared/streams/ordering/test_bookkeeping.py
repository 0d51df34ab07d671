"""What the reader of partitions notes in Redis: positions, what runs, what is held."""

from uuid import uuid4

from redis.asyncio import Redis

from shared.events.catalog import SYNCER
from shared.streams.ordering.bookkeeping import Bookkeeping, count_held
from tests.conftest import LEADS_DIVISION


async def test_a_note_changes_what_it_names_and_nothing_else(redis: Redis) -> None:
    one, two, three = LEADS_DIVISION.last.names[:3]
    notes = Bookkeeping(redis, group=SYNCER, owner=uuid4())
    await notes.note(running={two: "4-0"}, positions=[(one, "5-0"), (two, "1-0")], held={one: 1})

    before = await notes.note(
        running={one: "7-0", three: "3-0"},
        positions=[(two, "2-0"), (three, "1-0")],
        held={two: 2},
    )

    assert before == {two: (1, 0), three: (0, 0)}
    assert [await _shown(redis, stream) for stream in (one, two, three)] == ["5-0", "2-0", "1-0"]
    running = [await notes.was_running(stream) for stream in (one, two, three)]
    assert running == [(7, 0), (4, 0), (3, 0)]
    assert await count_held(redis, [one, two, three]) == 1 + 2


async def test_without_anything_to_note_redis_is_not_asked(redis: Redis) -> None:
    notes = Bookkeeping(redis, group=SYNCER, owner=uuid4())
    await redis.config_resetstat()
    assert await notes.note(running={}, positions=[], held={}) == {}
    assert not {"cmdstat_evalsha", "cmdstat_eval"} & set(await redis.info("commandstats"))


async def _shown(redis: Redis, stream: str) -> str:
    [group] = await redis.xinfo_groups(stream)
    return str(group["last-delivered-id"].decode())
