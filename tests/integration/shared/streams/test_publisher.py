"""Under one name, one set of events is published, however many processes try and how often."""

import asyncio

from redis.asyncio import Redis

from shared.events.catalog import LEADS
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import OncePublisher
from tests.support.builders import lead_created, lead_fields
from tests.support.partitions import events_in


async def test_the_first_set_is_published_and_everybody_learns_of_it(redis: Redis) -> None:
    publisher = OncePublisher(redis, Divisions(redis))
    offers = [[lead_created(lead_fields(city="Æ\u2028\"'")) for _ in range(3)] for _ in range(5)]
    answers = await asyncio.gather(*(publisher.publish("run-1", offer) for offer in offers))
    published = await events_in(redis, LEADS)
    assert published in offers
    assert answers == [[str(event.id) for event in published]] * 5


async def test_another_name_is_another_set(redis: Redis) -> None:
    publisher = OncePublisher(redis, Divisions(redis))
    await publisher.publish("run-1", [lead_created()])
    await publisher.publish("run-2", [lead_created()])
    assert await publisher.publish("run-3", []) == []
    assert len(await events_in(redis, LEADS)) == 2
