"""Which requests came lately, noted in Redis for a day: as ids, keys and hashes."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import cast
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from shared.events.data import LeadCreated, LeadUpserted
from shared.events.envelope import Event
from shared.redis_connections import translated_errors

CONTENT_PREFIX = "leads:request:"
ACCEPTED_PREFIX = "leads:accepted:"
ACCEPTED_LEAD_PREFIX = "leads:accepted-lead:"
TIME_TO_LIVE = timedelta(hours=24)

# Creations noted under one externalId: the last so many.
MOST_NOTED = 100


@dataclass(frozen=True, slots=True)
class NotedLead:
    """A lead that an accepted event makes, if it is not there by then."""

    event_id: UUID
    lead_id: UUID
    partition_key: str


class RequestNotes:
    """What was asked for under an event's id, and which events were accepted.

    An accepted event has been published and answered with 202: by the note its operation is
    known to be pending before its consumer has written a row.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def is_same_content(self, event_id: UUID, content: bytes) -> bool:
        """Note what is asked for, unless noted before; returns whether the note says the same."""
        key, digest = f"{CONTENT_PREFIX}{event_id}", hashlib.sha256(content).digest()
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(key, digest, nx=True, ex=TIME_TO_LIVE)
                pipeline.get(key)
                _, first = await pipeline.execute()
        return bool(first == digest)

    async def note_accepted(self, *events: Event) -> None:
        """Note events that were answered for before they were applied, and the leads they make."""
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for event in events:
                    pipeline.set(f"{ACCEPTED_PREFIX}{event.id}", b"", ex=TIME_TO_LIVE)
                    _note_lead(pipeline, event)
                await pipeline.execute()

    async def accepted_leads(self, key: str) -> list[NotedLead]:
        """Return the leads that accepted events make under an id or externalId, oldest first."""
        with translated_errors():
            notes = await self._redis.lrange(f"{ACCEPTED_LEAD_PREFIX}{key}", 0, -1)
        return [_noted(note) for note in cast("list[bytes]", notes)]

    async def was_accepted(self, event_id: UUID) -> bool:
        """Whether the event was accepted within the last day."""
        with translated_errors():
            return bool(await self._redis.exists(f"{ACCEPTED_PREFIX}{event_id}"))


def _note_lead(pipeline: Pipeline, event: Event) -> None:
    """Queue the note of the lead that an event makes, if it makes one."""
    data = event.data
    if not isinstance(data, LeadCreated | LeadUpserted):
        return
    # A new lead's key is its externalId, if it has one.
    names = (str(data.lead_id), data.partition_key)
    for key in (f"{ACCEPTED_LEAD_PREFIX}{name}" for name in names if name is not None):
        pipeline.rpush(key, f"{event.id} {data.lead_id} {event.key}")
        pipeline.ltrim(key, -MOST_NOTED, -1)
        pipeline.expire(key, TIME_TO_LIVE)


def _noted(note: bytes) -> NotedLead:
    event_id, lead_id, partition_key = note.decode().split(" ")
    return NotedLead(UUID(event_id), UUID(lead_id), partition_key)
