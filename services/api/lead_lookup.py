"""Which lead a request means, by either of its ids: in the cache, or else in PostgreSQL.

What is meant by a change may be accepted only, and not stored yet: the change waits its turn.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import orjson

from services.api.storage.requests import NotedLead, RequestNotes
from services.api.web.problems import Problem
from shared.cache.lead_cache import CachedLead, LeadCache
from shared.domain.errors import TransientError, UnavailableError
from shared.storage.inbox import EventStore
from shared.storage.lead_document import LeadDocument, LeadRepository

NOT_FOUND = "lead-not-found"
NOT_STORED = "lead-not-stored-yet"
# Seconds after which to ask for it again.
RETRY_AFTER = "2"

# How long an upsert waits for PostgreSQL, without which it is nearly always as well off.
KEY_TIMEOUT = timedelta(milliseconds=250)

# How long a change of a lead that is not stored waits for Redis, after two reads in vain.
NOTES_TIMEOUT = timedelta(seconds=1)

FIRST_VERSION = 1


class LeadLookup:
    """Reads through the cache. A UUID may be one lead's id and another's externalId: ids win."""

    def __init__(
        self,
        cache: LeadCache,
        leads: LeadRepository,
        accepted: "AcceptedLeads",
        *,
        timeout: timedelta,
    ) -> None:
        self._cache = cache
        self._leads = leads
        self._accepted = accepted
        self._seconds = timeout.total_seconds()

    async def find_lead(self, key: str) -> CachedLead | LeadDocument:
        """Return the lead whose id or externalId this is, a UUID in its canonical form.

        Raises `Problem` 404, one of its own while the lead is accepted and not stored.
        """
        # As `look_up` does, without a coroutine of its own around what nearly all ask for.
        lead = await self._cache.find(key) or await self._read_through(key)
        return await self._just_stored(key) if lead is None else lead

    async def find_pending(self, key: str) -> CachedLead | LeadDocument | NotedLead:
        """Return a lead that was not stored a moment ago, or how it will be made.

        Raises `Problem` 404 when it is neither stored nor accepted.
        """
        is_noted, pending = await self._accepted.find(key)
        if pending is not None:
            return pending
        # Applied since it was looked for, perhaps.
        lead = await self.look_up(key) if is_noted else None
        if lead is None:
            raise no_such_lead()
        return lead

    async def look_up(self, key: str) -> CachedLead | LeadDocument | None:
        """Return the lead as `find_lead` does, or None."""
        return await self._cache.find(key) or await self._read_through(key)

    async def find_id(self, key: str) -> UUID:
        """Return the id of the lead whose id or externalId this is; raises like `find_lead`.

        Who needs no more of a lead leaves the cache as it is: a summary soon writes it there anew.
        """
        lead = await self._cache.find(key) or await self._stored(UUID(key))
        return id_of(await self._just_stored(key) if lead is None else lead)

    async def _just_stored(self, key: str) -> CachedLead | LeadDocument:
        found = await self.find_pending(key)
        if isinstance(found, NotedLead):
            raise not_stored_yet(found)
        return found

    async def _read_through(self, key: str) -> LeadDocument | None:
        document = await self._stored(UUID(key))
        if document is not None:
            await self._cache.fill(document)
        return document

    async def _stored(self, key: UUID) -> LeadDocument | None:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._leads.get(key) or await self._leads.get_by_external_id(key)
        except TimeoutError as error:
            raise UnavailableError("PostgreSQL did not answer in time") from error


def no_such_lead() -> Problem:
    """Return the problem of a request about a lead that is not there."""
    return Problem(NOT_FOUND, "There is no lead with this id or externalId")


def not_stored_yet(lead: NotedLead) -> Problem:
    """Return the problem of a request about a lead that was accepted (202) and is not stored."""
    location = f"/operations/{lead.event_id}"
    return Problem(
        NOT_STORED,
        "The lead was accepted, and is not stored yet",
        members={"operation": location},
        headers={"Location": location, "Retry-After": RETRY_AFTER},
    )


def id_of(lead: CachedLead | LeadDocument) -> UUID:
    """Return the id of a lead that was found."""
    return UUID(orjson.loads(lead.json)["id"]) if isinstance(lead, CachedLead) else lead.id


class AcceptedLeads:
    """Leads that are still to be made, by the notes of what was answered 202."""

    def __init__(self, notes: RequestNotes, events: EventStore, *, timeout: timedelta) -> None:
        self._notes = notes
        self._events = events
        self._seconds = timeout.total_seconds()

    async def find(self, key: str) -> tuple[bool, NotedLead | None]:
        """Return whether a lead was accepted under an id or externalId, and it while it waits.

        Raises `UnavailableError` while the notes cannot be read: to say that there is no such lead
        would have a client give up a change of one that it was promised.
        """
        try:
            async with asyncio.timeout(NOTES_TIMEOUT.total_seconds()):
                noted = await self._notes.accepted_leads(key)
        except TimeoutError as error:
            raise UnavailableError("Redis did not say in time whether it was accepted") from error
        if not noted:
            return False, None
        try:
            async with asyncio.timeout(self._seconds):
                applied = await self._events.applied([one.event_id for one in noted])
        except TimeoutError as error:
            raise UnavailableError("PostgreSQL did not answer in time") from error
        return True, next((one for one in noted if one.event_id not in applied), None)


@dataclass(frozen=True, slots=True)
class Target:
    """A lead to be changed, in the version that it is in or will be made in."""

    lead_id: UUID
    partition_key: str
    version: int = FIRST_VERSION


class LeadTargets:
    """Finds leads for writes, and the partition keys under which the writes are published."""

    def __init__(
        self,
        lookup: LeadLookup,
        *,
        cache: LeadCache,
        leads: LeadRepository,
    ) -> None:
        self._lookup = lookup
        self._cache = cache
        self._leads = leads

    async def find(self, key: str) -> Target:
        """Return the lead whose id or externalId this is, a UUID in its canonical form.

        Raises `Problem` 404 when it is neither stored nor accepted.
        """
        return _target(await self._lookup.look_up(key) or await self._lookup.find_pending(key))

    async def moved_keys(self, external_ids: Collection[UUID]) -> dict[UUID, str]:
        """Return the partition keys of the leads for which it is not their externalId.

        One that is missed costs a detour: its owner sends the event on.
        """
        found = await asyncio.gather(*map(self._cache.get_by_external_id, external_ids))
        cached = dict(zip(external_ids, found, strict=True))
        moved = {
            external_id: lead.moved_key
            for external_id, lead in cached.items()
            if lead is not None and lead.moved_key is not None
        }
        unknown = [external_id for external_id, lead in cached.items() if lead is None]
        return moved | await self._stored_keys(unknown)

    async def _stored_keys(self, external_ids: Collection[UUID]) -> dict[UUID, str]:
        if not external_ids:
            return {}
        try:
            async with asyncio.timeout(KEY_TIMEOUT.total_seconds()):
                return await self._leads.moved_keys(external_ids)
        except (UnavailableError, TransientError, TimeoutError):
            return {}


def _target(lead: CachedLead | LeadDocument | NotedLead) -> Target:
    if isinstance(lead, NotedLead):
        return Target(lead.lead_id, lead.partition_key)
    if isinstance(lead, LeadDocument):
        return Target(lead.id, str(lead.partition_key), lead.version)
    fields = orjson.loads(lead.json)
    key = lead.moved_key or fields["externalId"] or fields["id"]
    return Target(UUID(fields["id"]), key, lead.version)
