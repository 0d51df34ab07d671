"""What follows a commit: the cache brought up to date, readers told, streams rid of the person."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID, uuid5

from services.syncer.storage.erasure import ErasedEvent
from shared.cache.lead_cache import LeadCache
from shared.events.envelope import Event, now
from shared.events.lead_events import LeadChanged
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import Applied
from shared.streams.consuming.subscription import Handler
from shared.streams.publisher import Publisher

Erase = Callable[[Sequence[ErasedEvent]], Awaitable[None]]
"""Removes the entries of applied events; raises `UnavailableError`."""

# Ends of events that speak of somebody who is deleted, or of nobody there.
_OF_NOBODY = frozenset({OutcomeStatus.ERASED, OutcomeStatus.NOT_FOUND})


class Aftermath:
    """Tells of changed leads. Raises `UnavailableError`: then it has not been told yet."""

    def __init__(self, cache: LeadCache, publisher: Publisher) -> None:
        self._cache = cache
        self._publisher = publisher

    async def __call__(self, events: Sequence[Event], applied: Sequence[Applied]) -> None:
        """Bring cache and readers up to date, in that order."""
        ended = [
            (event, one, one.document)
            for event, one in zip(events, applied, strict=True)
            if one.document is not None and is_news(event, one.outcome)
        ]
        # An older version may be cached: this is no write that may fail.
        await self._cache.put([lead for *_, lead in ended])
        await self._publisher.publish_all(
            [
                lead_changed(event, lead.id, version=lead.version, change=one.change)
                for event, one, lead in ended
                if one.change is not None
            ]
        )


def is_news(event: Event, outcome: Outcome) -> bool:
    """Tell whether others may not know of it: a replay of what is there already is no news."""
    return event.replay_id is None or not outcome.repeated


def lead_changed(cause: Event, lead_id: UUID, *, version: int, change: str) -> Event:
    """Return the notice of what an event did: the same one however often it is told."""
    return Event(
        id=uuid5(cause.id, "lead-changed"),
        source="syncer",
        subject=str(lead_id),
        correlation_id=cause.correlation_id,
        data=LeadChanged(lead_id=lead_id, lead_version=version, change=change),
    )


def erasing(handle: Handler, erase: Erase) -> Handler:
    """Return a handler of events with personal data that leaves none where there is no lead."""

    async def handle_and_erase(events: Sequence[Event]) -> Sequence[Outcome]:
        outcomes = await handle(events)
        ended = zip(events, outcomes, strict=True)
        await erase([_erased(event) for event, end in ended if end.status in _OF_NOBODY])
        return outcomes

    return handle_and_erase


def _erased(event: Event) -> ErasedEvent:
    return ErasedEvent(id=event.id, type=event.type, made_at=event.time, applied_at=now())
