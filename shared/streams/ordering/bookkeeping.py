"""What the reader of partitions leaves in Redis: for whoever looks on, and for its successor.

Nothing of it decides about order: that is PostgreSQL's alone. The consumer group of a partition
shows how far it has come, to operators and to trimming. What is being worked on is noted before it
is begun, so that of a process that dies it is known what it may have died of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from redis.asyncio import Redis

from shared.lua import Keys, lua_script
from shared.redis_connections import is_cluster, translated_errors
from shared.streams.codec import EntryId, entries_of, entry_id
from shared.streams.consuming.group import there_or

REMEMBERED = timedelta(days=7)


class Bookkeeping:
    """Notes of one reader, and those that others have left."""

    def __init__(self, redis: Redis, *, group: str, owner: UUID) -> None:
        self._redis = redis
        self._group = group
        self._owner = owner

    async def note(
        self,
        *,
        running: Mapping[str, str],
        positions: Sequence[tuple[str, str]],
        held: Mapping[str, int],
    ) -> dict[str, EntryId]:
        """Note what is about to be worked on, by stream up to which entry, what is done and held.

        Returns for each stream of `positions` which one it showed before.
        """
        done = dict(positions)
        noted = list(dict.fromkeys([*done, *running]))
        with translated_errors():
            before = await self._note(noted, done, running) if noted else {}
            if held:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for stream, number in held.items():
                        pipeline.set(held_key(stream), number)
                    await pipeline.execute()
        return {stream: entry_id(before[stream]) for stream in done}

    async def _note(
        self, streams: Sequence[str], done: Mapping[str, str], running: Mapping[str, str]
    ) -> dict[str, bytes]:
        """Note it for each stream; returns the positions before."""
        if not is_cluster(self._redis):
            shown = await note_progress(self._redis, **self._progress(streams, done, running))
            return dict(zip(streams, shown, strict=True))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for stream in streams:  # each in a slot of its own
                note_progress.queue(pipeline, **self._progress([stream], done, running))
            replies = cast("list[list[bytes]]", await pipeline.execute())
        return {stream: reply[0] for stream, reply in zip(streams, replies, strict=True)}

    def _progress(
        self, streams: Sequence[str], done: Mapping[str, str], running: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return what `note_progress` takes."""
        return {
            "keys": [key for stream in streams for key in (stream, _running(stream))],
            "group": self._group,
            "remembered": REMEMBERED,
            "values": [
                value
                for stream in streams
                for value in (done.get(stream, ""), running.get(stream, ""))
            ],
        }

    async def was_running(self, stream: str) -> EntryId:
        """Return up to which entry of a stream work was begun, be it done or not.

        Nobody has to clear this: the position passes it. So it outlives whoever took the partition
        over and gave it up again, or died of something else before it had begun.
        """
        with translated_errors():
            return entry_id(await self._redis.get(_running(stream)) or b"0-0")

    async def count_crash(self, stream: str, id_: str) -> int:
        """Count an entry as one that this process may die of, once, until its crash is cleared.

        Returns of how many processes that is noted.
        """
        with translated_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hset(_crashes(stream), f"{id_}/{self._owner}", 1)
                pipeline.expire(_crashes(stream), REMEMBERED)
                pipeline.hkeys(_crashes(stream))
                *_, notes = await pipeline.execute()
        return sum(note.startswith(f"{id_}/".encode()) for note in notes)

    async def clear_crashes(self, stream: str, id_: str) -> None:
        """Note that an entry has come to its end, and no process died of it."""
        if noted := await self._crashes_of(stream, id_):
            with translated_errors():
                await self._redis.hdel(_crashes(stream), *noted)

    async def clear_crash(self, stream: str, id_: str) -> None:
        """Note that this process has not died of an entry, whatever comes of it."""
        with translated_errors():
            await self._redis.hdel(_crashes(stream), f"{id_}/{self._owner}")

    async def crashed(self, stream: str) -> set[str]:
        """Return the entries over which processes died while they worked on nothing else."""
        return {note.partition("/")[0] for note in await self._notes(stream)}

    async def _crashes_of(self, stream: str, id_: str) -> list[str]:
        return [note for note in await self._notes(stream) if note.startswith(f"{id_}/")]

    async def _notes(self, stream: str) -> list[str]:
        with translated_errors():
            notes = cast("list[bytes]", await self._redis.hkeys(_crashes(stream)))
        return [note.decode() for note in notes]


def held_key(stream: str) -> str:
    """Return where the number of entries that are held in a partition is noted."""
    return f"held:{stream}"


async def count_held(client: Redis, streams: Sequence[str]) -> int:
    """Return how many entries of partitions are held, as far as their owners have noted it."""
    with translated_errors():
        async with client.pipeline(transaction=False) as pipeline:
            for stream in streams:
                pipeline.get(held_key(stream))
            return sum(int(number or 0) for number in await pipeline.execute())


@dataclass(frozen=True, slots=True)
class Waiting:
    """The keys of what waits in partitions, and the newest of all entries there that is known."""

    keys: frozenset[str]
    newest: EntryId


async def find_waiting(
    client: Redis, streams: Sequence[str], *, group: str, most: int
) -> Waiting | None:
    """Return what partitions hold after the positions that their owners show.

    None when that is more than so many entries in one of them, or not known. What is held is not
    among them.
    """
    with translated_errors():
        async with client.pipeline(transaction=False) as pipeline:
            for stream in streams:
                pipeline.xinfo_groups(stream)
            infos = await pipeline.execute(raise_on_error=False)
        positions = [_shown_by(there_or(info, []), group) for info in infos]
        known = [position for position in positions if position is not None]
        if len(known) < len(positions):
            return None
        async with client.pipeline(transaction=False) as pipeline:
            for stream, position in zip(streams, known, strict=True):
                pipeline.xrange(stream, min=f"({position}", count=most + 1)
            waiting = [entries_of(reply) for reply in await pipeline.execute()]
    if any(len(entries) > most for entries in waiting):
        return None
    last = [*known, *(entries[-1].id for entries in waiting if entries)]
    keys = frozenset(entry.key for entries in waiting for entry in entries)
    return Waiting(keys, max(map(entry_id, last)))


def _shown_by(groups: Sequence[Mapping[str, Any]], group: str) -> str | None:
    shown = (one["last-delivered-id"] for one in groups if one["name"].decode() == group)
    position: bytes | None = next(shown, None)
    return None if position is None else position.decode()


def _running(stream: str) -> str:
    return f"running:{stream}"


def _crashes(stream: str) -> str:
    return f"crashes:{stream}"


@lua_script("""
local function value_of(info, name)
  for i = 1, #info, 2 do
    if info[i] == name then return info[i + 1] end
  end
end
local function show(stream, position)
  local shown
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, info in ipairs(groups) do
    if value_of(info, 'name') == group then shown = value_of(info, 'last-delivered-id') end
  end
  if shown and shown ~= position then
    redis.call('XGROUP', 'SETID', stream, group, position)
  elseif not shown then
    redis.call('XGROUP', 'CREATE', stream, group, position, 'MKSTREAM')
  end
  return shown or '0-0'
end
local before = {}
for i = 1, #keys, 2 do
  local position, last = values[i], values[i + 1]
  before[#before + 1] = position ~= '' and show(keys[i], position) or ''
  if last ~= '' then redis.call('SET', keys[i + 1], last, 'PX', remembered) end
end
return before
""")
def note_progress(
    *, keys: Keys, group: str, remembered: timedelta, values: Sequence[str]
) -> list[bytes]:
    """Have a group show positions, and note what runs; makes both anew where they are lost.

    A stream has two keys, its own and that of the note of what runs, and two values: its position,
    and the last entry that runs; none of either changes nothing. Returns the positions before.
    """
    raise NotImplementedError
