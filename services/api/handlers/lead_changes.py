"""`/leads/{id}` and `/leads/by-external-id/{externalId}`: change, delete and upsert."""

from uuid import UUID

from aiohttp import web

from services.api.exchange import Exchange
from services.api.handlers.operations import accepted_response
from services.api.idempotency import IdempotencyKeys, event_id_of, lead_id_of
from services.api.ids import canonical_id
from services.api.lead_lookup import LeadLookup, id_of
from services.api.lead_outcomes import refusal, stored_response
from services.api.preconditions import expected_version, refuse_precondition
from services.api.preferences import prefers_async
from services.api.problems import Problem, validation_problem
from services.api.request_body import JSON_ONLY, MERGE_PATCH, read_json_object
from services.api.responses import empty_response
from services.api.routing import Call
from services.api.schemas import LeadPatch, LeadPut, parse
from services.api.settings import HttpSettings
from shared.domain.lead import LeadSource
from shared.events.data import EventData
from shared.events.envelope import Event, new_id
from shared.events.lead_events import LeadDeleted, LeadUpdated, LeadUpserted
from shared.events.outcome import Outcome, OutcomeStatus

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
        await self._keys.check(call.request, event_id, data.intent())
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
        await self._keys.check(call.request, event_id, data.intent())
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
            await self._exchange.tell(event)
            return None
        return await self._exchange.ask(event, patience=self._timeout)


def _external_id(text: str) -> UUID:
    try:
        return UUID(canonical_id(text, missing=NOT_FOUND))
    except Problem:
        raise validation_problem({"externalId": "Must be a UUID"}) from None
