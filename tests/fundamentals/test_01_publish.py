"""1. An event becomes one entry of its stream."""

from redis.asyncio import Redis

from shared.events import catalog
from shared.events.data import LeadCreated
from shared.events.envelope import Event, new_id
from shared.streams.codec import decode, entries_of
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import open_publisher
from tests.support.builders import lead_fields


async def test_publish(redis: Redis) -> None:
    # An event is data in an envelope. The data says what is asked for: create this lead.
    lead_id = new_id()
    data = LeadCreated(lead_id=lead_id, source="manual", lead=lead_fields(first_name="Ada"))
    # The envelope says who asks (source), about what (subject), and gives the event an id.
    event = Event(source="tutorial", subject=str(lead_id), data=data)

    # The publisher finds the stream in the catalog. Once this returns, Redis has the event.
    divisions = Divisions(redis)
    async with open_publisher(redis, divisions) as publisher:
        entry_id = await publisher.publish(event)

    # The events of leads keep their order, each lead's by itself. So their stream is divided into
    # partitions, which are streams of their own, and a lead's events are all in the same one.
    layout = await divisions.layout(catalog.LEADS)
    partition = layout.name_for(event.key)

    # There it is one entry, with the attributes of a CloudEvent as fields.
    [entry] = entries_of(await redis.xrange(partition))
    assert entry.id == entry_id
    assert entry.fields[b"type"] == b"lead-created"
    assert entry.fields[b"subject"] == str(lead_id).encode()

    # Nothing got lost on the way: decoded, it is the same event again.
    assert decode(entry.fields) == event
