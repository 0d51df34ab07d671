"""What follows the commit of events about leads: in the cache, for readers, in the streams."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from services.syncer.storage.erasure import ErasedEvent, StreamErasure
from shared.cache.lead_cache import LeadCache
from shared.domain.errors import UnavailableError
from shared.domain.lead import LeadSource
from shared.events.data import LeadCreated, LeadDeleted, LeadUpserted
from shared.events.envelope import Event, now
from shared.events.outcome import OutcomeStatus
from shared.storage.inbox import WriteResult
from shared.storage.lead_document import LeadDocument
from shared.streams.publisher import Publisher

# Outcomes of events that speak of a person who is deleted, or of a lead that is not there.
_WITHOUT_LEAD = frozenset({OutcomeStatus.ERASED, OutcomeStatus.NOT_FOUND})

# What was asked for earlier is of a backlog.
RECENT = timedelta(seconds=10)


class AfterCommit:
    """Follows up events about leads, also those applied before: a process may have died since."""

    def __init__(self, cache: LeadCache, publisher: Publisher, erasure: StreamErasure) -> None:
        self._cache = cache
        self._publisher = publisher
        self._erasure = erasure

    async def __call__(self, events: Sequence[Event], results: Sequence[WriteResult]) -> None:
        """Bring cache, readers and streams up to date, in that order.

        What is not in its lead's partition goes there: it is the same event, as yet unanswered.
        """
        news = [
            (event, result.change, result.lead)
            for event, result in zip(events, results, strict=True)
            if result.lead is not None and _is_news(event, result)
        ]
        await self._update_cache(news)
        if deleted := [lead.id for _, change, lead in news if change == "deleted"]:
            await self._erasure.erase_leads(deleted)
        await self._publisher.announce(
            [
                (event, lead.id, lead.version, change)
                for event, change, lead in news
                if change is not None
            ],
            source="syncer",
        )
        await self._publisher.publish_all(
            [
                replace(event, partition_key=result.forward_to)
                for event, result in zip(events, results, strict=True)
                if result.forward_to is not None
            ]
        )
        if without_lead := [
            ErasedEvent(id=event.id, type=event.type, made_at=event.time, applied_at=now())
            for event, result in zip(events, results, strict=True)
            if result.outcome.status in _WITHOUT_LEAD and event.type != LeadDeleted.type
        ]:
            await self._erasure.erase_events(without_lead)

    async def _update_cache(self, news: Sequence[tuple[Event, str | None, LeadDocument]]) -> None:
        for _, change, lead in news:
            if change == "deleted":
                await self._cache.mark_deleted(lead.id, lead.external_id, version=lead.version)
        # An older version may be cached: this is no write that may fail.
        if changed := [lead for _, change, lead in news if change in {None, "updated"}]:
            await self._cache.put(changed)
        # A lead that is new has no older copy in the cache, so the cache may be down. Of many at a
        # time each would take room from what is read: who asks for one of these puts it there.
        since = now() - RECENT
        if created := [
            lead
            for event, change, lead in news
            if change == "created" and lead.json and _comes_alone(event, since=since)
        ]:
            with contextlib.suppress(UnavailableError):
                await self._cache.put(created)


def is_shown(event: Event) -> bool:
    """Return whether anybody is to see the lead that an event makes: who waits, or the cache."""
    time = now()
    if event.replay_id is not None:
        return False
    is_awaited = event.reply_to is not None and (event.expires is None or event.expires > time)
    return is_awaited or _comes_alone(event, since=time - RECENT)


def _comes_alone(event: Event, *, since: datetime) -> bool:
    """Return whether a new lead is none of a file, of a replay or of a backlog."""
    data = event.data
    is_row = isinstance(data, LeadCreated | LeadUpserted) and data.source == LeadSource.IMPORT
    return not is_row and event.replay_id is None and event.time > since


def _is_news(event: Event, result: WriteResult) -> bool:
    """Return whether others may not know: a replay of what is there already is no news."""
    return event.replay_id is None or not result.outcome.repeated
