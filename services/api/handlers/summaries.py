"""`/leads/{id}/summary`: have a lead's summary and next action written."""

from datetime import timedelta
from uuid import UUID

import orjson
from aiohttp import web

from services.api.exchange import Exchange
from services.api.handlers.operations import accepted_response, ended_otherwise
from services.api.idempotency import event_id_of
from services.api.ids import canonical_id
from services.api.lead_lookup import LeadLookup
from services.api.paging import refuse_unknown
from services.api.preferences import prefers_async
from services.api.problems import Problem, validation_problem
from services.api.responses import lead_response
from services.api.routing import Call
from shared.cache.lead_cache import CachedLead
from shared.events.envelope import Event, now
from shared.events.outcome import Outcome, OutcomeStatus
from shared.events.summary_events import SummaryRequested

REQUEST = "POST /leads/{id}/summary"
RETRY_AFTER = {"Retry-After": "10"}

# The summarizer's reason -> our code, for those that are not the summarizer being away.
FAILURES = {
    "invalid-output": ("invalid-model-output", "The model's answer did not fit the lead"),
    "rate-limited": ("rate-limited", "The language model asks to wait"),
    "quota": ("rate-limited", "The quota for summaries is used up"),
}


class SummaryHandlers:
    """Asks the summarizer."""

    def __init__(
        self, *, exchange: Exchange, lookup: LeadLookup, summary_timeout: timedelta
    ) -> None:
        self._exchange = exchange
        self._lookup = lookup
        self._timeout = summary_timeout

    async def request(self, call: Call) -> web.StreamResponse:
        """POST /leads/{id or externalId}/summary: 200 with the lead, 202 when it takes longer."""
        regenerate = _regenerate(call.request)
        found = await self._lookup.find(canonical_id(call.param, missing="lead-not-found"))
        lead_id = (
            UUID(orjson.loads(found.json)["id"]) if isinstance(found, CachedLead) else found.id
        )
        event = self._event(call, lead_id, regenerate=regenerate)
        if prefers_async(call.request):
            await self._exchange.tell(event)
            return accepted_response(event.id)
        outcome = await self._exchange.ask(event, patience=self._timeout)
        return accepted_response(event.id) if outcome is None else _response(outcome)

    def _event(self, call: Call, lead_id: UUID, *, regenerate: bool) -> Event:
        return Event(
            id=event_id_of(call.request, user=call.user, operation=REQUEST),
            source="api",
            subject=str(lead_id),
            correlation_id=call.id,
            reply_to=self._exchange.reply_address,
            expires=now() + self._timeout,
            data=SummaryRequested(
                lead_id=lead_id, requested_by=call.user.id, regenerate=regenerate
            ),
        )


def _regenerate(request: web.BaseRequest) -> bool:
    refuse_unknown(request.query, known=("regenerate",))
    value = request.query.get("regenerate", "false").lower()
    if value not in {"true", "false"}:
        raise validation_problem({"regenerate": "Must be true or false"})
    return value == "true"


def _response(outcome: Outcome) -> web.StreamResponse:
    match outcome.status:
        case OutcomeStatus.SUMMARISED:
            lead = orjson.loads(outcome.body)
            return lead_response(outcome.body, version=lead["version"])
        case OutcomeStatus.FAILED:
            raise _failure(orjson.loads(outcome.body).get("reason", ""))
        case _:
            raise ended_otherwise(outcome)


def _failure(reason: str) -> Problem:
    code, detail = FAILURES.get(
        reason, ("summaries-unavailable", "The language model cannot be reached now")
    )
    headers = {} if code == "invalid-model-output" else RETRY_AFTER
    return Problem(code, detail, members={"reason": reason}, headers=headers)
