"""`/leads/{id}` and `/leads/by-external-id/{externalId}`: change, delete and upsert."""

import re
from uuid import UUID

from aiohttp import hdrs, web

from services.api.exchange import Exchange
from services.api.handlers.lookup import LeadLookup, id_of
from services.api.handlers.operations import (
    accepted_response,
    refusal,
    stored_response,
    version_mismatch,
)
from services.api.handlers.schemas import LeadPatch, LeadPut
from services.api.server.routing import Call
from services.api.settings import HttpSettings
from services.api.web.body import JSON_ONLY, MERGE_PATCH, read_json_object
from services.api.web.headers import IdempotencyKeys, event_id_of, lead_id_of, prefers_async
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import canonical_id
from services.api.web.responses import empty_response
from services.api.web.validation import parse
from shared.domain.lead import LeadSource
from shared.events.data import EventData
from shared.events.envelope import Event, new_id
from shared.events.lead_events import LeadDeleted, LeadUpdated, LeadUpserted
from shared.events.outcome import Outcome, OutcomeStatus

# The If-Match header: which version of a lead a client means to change.

_tag = r'(?:W/)?"[\x21\x23-\x7e]*"'
_well_formed = re.compile(rf"\*|{_tag}(?:[ \t]*,[ \t]*{_tag})*").fullmatch
# Weak tags never match here (RFC 9110, 13.1.1), and a version has one way to be written.
_versions = re.compile(r'(?<!W/)"([1-9]\d{0,17})"', re.ASCII).findall


def expected_version(request: web.BaseRequest, *, current: int) -> int | None:
    """Return the version that the lead has to be in; None when any will do.

    `current` is the version it was seen in, which another write may overtake: whether it is the
    expected one is decided where it is written. Raises `Problem` 400, and 412 when the header
    names no version at all.
    """
    header = ", ".join(request.headers.getall(hdrs.IF_MATCH, ())).strip()
    if not header and hdrs.IF_MATCH not in request.headers:
        return None
    if _well_formed(header) is None:
        raise validation_problem({hdrs.IF_MATCH: 'Must be an ETag such as "2", or *'})
    if header == "*":
        return None
    versions = {int(version) for version in _versions(header)}
    if not versions:
        raise version_mismatch(current)
    return current if current in versions else max(versions)


def refuse_precondition(request: web.BaseRequest) -> None:
    """Raise `Problem` 400 for an If-Match that would be ignored."""
    if hdrs.IF_MATCH in request.headers:
        raise validation_problem({hdrs.IF_MATCH: "Is not heeded here; send a PATCH instead"})


UPDATE = "PATCH /leads/{id}"
UPSERT = "PUT /leads/by-external-id/{externalId}"
NOT_FOUND = "lead-not-found"


class LeadChangeHandlers:
    """Writes to leads that are there, or may be. Those that take long are answered 202."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        keys: IdempotencyKeys,
        lookup: LeadLookup,
        settings: HttpSettings,
    ) -> None:
        self._exchange = exchange
        self._keys = keys
        self._lookup = lookup
        self._timeout = settings.create_timeout
        self._body_timeout = settings.body_timeout

    async def update(self, call: Call) -> web.StreamResponse:
        """PATCH /leads/{id or externalId}: 200 with the lead as it is now."""
        body = await read_json_object(
            call.request, within=self._body_timeout, media_types=(MERGE_PATCH, *JSON_ONLY)
        )
        changes = parse(LeadPatch, body)
        event_id = event_id_of(call.request, user=call.user, operation=UPDATE)
        lead_id, version = await self._find(call)
        data = LeadUpdated(
            lead_id=lead_id, changes=changes, expected_version=version, updated_by=call.user.id
        )
        await self._keys.check_key(call.request, event_id, data.intent())
        outcome = await self._carry_out(call, self._event(call, event_id, lead_id, data))
        return accepted_response(event_id) if outcome is None else stored_response(outcome)

    async def delete(self, call: Call) -> web.StreamResponse:
        """DELETE /leads/{id or externalId}: 204 once the person is forgotten."""
        lead_id, version = await self._find(call)
        data = LeadDeleted(lead_id=lead_id, expected_version=version, deleted_by=call.user.id)
        event = self._event(call, new_id(), lead_id, data)
        outcome = await self._carry_out(call, event)
        if outcome is None:
            return accepted_response(event.id)
        if outcome.status is not OutcomeStatus.DELETED:
            raise refusal(outcome)
        return empty_response(204, headers={"Cache-Control": "no-store"})

    async def upsert(self, call: Call) -> web.StreamResponse:
        """PUT /leads/by-external-id/{externalId}: 200 with the lead changed, 201 with a new one."""
        refuse_precondition(call.request)
        external_id = _external_id(call.param)
        lead = parse(LeadPut, await read_json_object(call.request, within=self._body_timeout))
        # Null is what a client sends whose leads have the field, and here no value of their own.
        if lead.external_id not in {None, external_id}:
            raise validation_problem({"externalId": "Must be the one in the address"})
        event_id = event_id_of(call.request, user=call.user, operation=UPSERT)
        lead_id = lead_id_of(event_id)
        data = LeadUpserted(
            lead_id=lead_id,
            source=LeadSource.MANUAL,
            created_by=call.user.id,
            external_id=external_id,
            lead=lead,
        )
        await self._keys.check_key(call.request, event_id, data.intent())
        outcome = await self._carry_out(call, self._event(call, event_id, lead_id, data))
        return accepted_response(event_id) if outcome is None else stored_response(outcome)

    async def _find(self, call: Call) -> tuple[UUID, int | None]:
        """Return the id of the lead that the path names, and the version it has to be in."""
        lead = await self._lookup.find(canonical_id(call.param, missing=NOT_FOUND))
        return id_of(lead), expected_version(call.request, current=lead.version)

    def _event(self, call: Call, event_id: UUID, lead_id: UUID, data: EventData) -> Event:
        return Event(
            id=event_id,
            source="api",
            subject=str(lead_id),
            correlation_id=call.id,
            reply_to=self._exchange.reply_address,
            data=data,
        )

    async def _carry_out(self, call: Call, event: Event) -> Outcome | None:
        if prefers_async(call.request):
            await self._exchange.publish(event)
            return None
        return await self._exchange.publish_and_await(event, within=self._timeout)


def _external_id(text: str) -> UUID:
    try:
        return UUID(canonical_id(text, missing=NOT_FOUND))
    except Problem:
        raise validation_problem({"externalId": "Must be a UUID"}) from None
