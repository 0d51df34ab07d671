"""`/leads`: create and read."""

from aiohttp import hdrs, web

from services.api.exchange import Exchange
from services.api.handlers.lookup import LeadLookup
from services.api.handlers.operations import accepted_response, stored_response
from services.api.handlers.schemas import LeadInput
from services.api.server.routing import Call
from services.api.settings import HttpSettings
from services.api.web.body import read_json_object
from services.api.web.headers import IdempotencyKeys, event_id_of, lead_id_of, prefers_async
from services.api.web.query import canonical_id
from services.api.web.responses import lead_response, not_modified
from services.api.web.validation import parse
from shared.domain.lead import LeadSource
from shared.events.envelope import Event
from shared.events.lead_events import LeadCreated

CREATE = "POST /leads"


class LeadHandlers:
    """Leads as REST resources."""

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
        self._create_timeout = settings.create_timeout
        self._body_timeout = settings.body_timeout

    async def create(self, call: Call) -> web.StreamResponse:
        """POST /leads: 201 once the lead is committed, 202 when that takes longer."""
        lead = parse(LeadInput, await read_json_object(call.request, within=self._body_timeout))
        event = self._created_event(call, lead)
        await self._keys.check_key(call.request, event.id, event.data.intent())
        if prefers_async(call.request):
            await self._exchange.publish(event)
            return accepted_response(event.id)
        outcome = await self._exchange.publish_and_await(event, within=self._create_timeout)
        return accepted_response(event.id) if outcome is None else stored_response(outcome)

    async def read(self, call: Call) -> web.StreamResponse:
        """GET /leads/{id or externalId}."""
        lead = await self._lookup.find(canonical_id(call.param, missing="lead-not-found"))
        if hdrs.IF_NONE_MATCH in call.request.headers and _is_current(call.request, lead.version):
            return not_modified(version=lead.version)
        return lead_response(lead.json, version=lead.version)

    def _created_event(self, call: Call, lead: LeadInput) -> Event:
        event_id = event_id_of(call.request, user=call.user, operation=CREATE)
        lead_id = lead_id_of(event_id)
        return Event(
            id=event_id,
            source="api",
            subject=str(lead_id),
            correlation_id=call.id,
            reply_to=self._exchange.reply_address,
            data=LeadCreated(
                lead_id=lead_id, source=LeadSource.MANUAL, created_by=call.user.id, lead=lead
            ),
        )


def _is_current(request: web.BaseRequest, version: int) -> bool:
    # The usual header is one ETag as we gave it.
    if request.headers[hdrs.IF_NONE_MATCH] == f'"{version}"':
        return True
    return any(tag.value in ("*", str(version)) for tag in request.if_none_match or ())
