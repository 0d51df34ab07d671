"""What is in the partitions of an ordered stream, as if it were one stream."""

from uuid import uuid4

from redis.asyncio import Redis

from shared.events.catalog import LEADS
from shared.events.envelope import Event
from shared.streams.codec import Entry, decode, entries_of, entry_id
from shared.streams.ordering.bookkeeping import Bookkeeping
from shared.streams.ordering.layout import Divisions


async def lead_streams(redis: Redis) -> list[str]:
    """Return the streams of the partitions."""
    return list((await Divisions(redis).refresh(LEADS)).last.names)


async def lead_entries(redis: Redis) -> list[Entry]:
    """Return the entries of all partitions, oldest first."""
    entries = [
        entry
        for stream in await lead_streams(redis)
        for entry in entries_of(await redis.xrange(stream))
    ]
    return sorted(entries, key=lambda entry: entry_id(entry.id))


async def all_leads_done(redis: Redis) -> bool:
    """Return whether every partition's group shows that all of it is done."""
    for stream in await lead_streams(redis):
        if not await redis.exists(stream):
            continue
        groups = await redis.xinfo_groups(stream)
        info = await redis.xinfo_stream(stream)
        if [group["last-delivered-id"] for group in groups] != [info["last-generated-id"]]:
            return False
    return True


async def events_in(redis: Redis, stream: str) -> list[Event]:
    """Return the events in all partitions of a stream, in the order in which they were made."""
    names = await Divisions(redis).streams_of(stream)
    entries = [entry for name in names for entry in entries_of(await redis.xrange(name))]
    return sorted((decode(entry.fields) for entry in entries), key=lambda event: event.id)


async def show_position(redis: Redis, *, stream: str, group: str, position: str) -> None:
    """Have a partition's group show a position, as its owner does."""
    notes = Bookkeeping(redis, group=group, owner=uuid4())
    await notes.note(running={}, positions=[(stream, position)], held={})
