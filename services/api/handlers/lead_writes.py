"""Writes of one lead: create, change, delete, and upsert by its externalId.

Each publishes an event and awaits its outcome. A write that takes long is answered 202.
"""

from typing import TypeAlias
from uuid import UUID

import orjson
from aiohttp import hdrs, web

from services.api.exchange import Exchange
from services.api.handlers.lead_inputs import LeadInput, LeadPatch, LeadPut
from services.api.handlers.leads import (
    EXAMPLE_LEAD,
    LEAD_KEY,
    LEAD_LINKS,
    LEAD_LOCATION,
    Lead,
)
from services.api.handlers.operations import ACCEPTED, accepted_response, problem_of
from services.api.lead_lookup import NOT_FOUND, LeadTargets, Target
from services.api.server.routing import Call
from services.api.settings import HttpSettings
from services.api.web.body import JSON_ONLY, MERGE_PATCH, read_json_object
from services.api.web.endpoint import JSON, Answer, Body, Endpoint, Parameter, Tag
from services.api.web.headers import (
    ETAG,
    IDEMPOTENCY_KEY,
    PREFER,
    EntityTags,
    IdempotencyKeys,
    entity_tags,
    event_id_of,
    lead_id_of,
    prefers_async,
    versions_of,
)
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import canonical_id
from services.api.web.responses import NO_STORE, empty_response, lead_response
from shared.domain.lead import LeadSource
from shared.events.data import LeadCreated, LeadDeleted, LeadUpdated, LeadUpserted
from shared.events.envelope import new_id
from shared.events.outcome import Outcome, OutcomeStatus

# The ids of events with an Idempotency-Key are made of these too: they must not change.
CREATE = "POST /leads"
UPDATE = "PATCH /leads/{id}"
UPSERT = "PUT /leads/by-external-id/{externalId}"

# What a lead that was written is answered with.
_STATUSES = {OutcomeStatus.CREATED: 201, OutcomeStatus.UPDATED: 200}

LeadWrite: TypeAlias = LeadCreated | LeadUpdated | LeadUpserted | LeadDeleted

# What a client sends to have a lead created.
EXAMPLE_INPUT = {
    name: EXAMPLE_LEAD[name]
    for name in (
        *("externalId", "firstName", "lastName", "email", "phone", "dob", "city", "country"),
        "picture",
    )
}
EXAMPLE_CHANGES = {"city": "Paris", "state": None, "status": "contacted"}

IF_MATCH = Parameter(
    name=hdrs.IF_MATCH,
    place="header",
    description="The ETag of the lead that is meant: refused when it has changed since. Weak tags "
    "are compared too",
    type=EntityTags,
    example='"2"',
)
EXTERNAL_ID = Parameter(
    name="externalId",
    place="path",
    description="The lead's `externalId`",
    type=UUID,
    example=EXAMPLE_LEAD["externalId"],
)


class LeadWriteHandlers:
    """Writes one lead a request."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        keys: IdempotencyKeys,
        targets: LeadTargets,
        settings: HttpSettings,
    ) -> None:
        self._exchange = exchange
        self._keys = keys
        self._targets = targets
        self._timeout = settings.create_timeout
        self._body_timeout = settings.body_timeout

    @Endpoint(
        "POST",
        "/leads",
        aliases={"/lead": "createLeadAlias"},
        id="createLead",
        tag=Tag.LEADS,
        summary="Create a lead",
        explanation="Answered once the lead is stored. When that takes too long, or the client "
        "prefers not to wait, the answer is 202: the lead is accepted, and stored as soon as "
        "possible. Until then it can be changed and deleted, which waits its turn.\n\n"
        "No two leads have the same `externalId`, or e-mail addresses that differ in nothing but "
        "the case of letters, and no `externalId` is another lead's `id`: the conflict names the "
        "`field` and the `leadId` of the lead that has it.",
        parameters=(IDEMPOTENCY_KEY, PREFER),
        body=Body.json(LeadInput, **EXAMPLE_INPUT),
        answers=(
            Answer.json(
                201,
                Lead,
                "The lead is stored",
                headers=(LEAD_LOCATION, ETAG),
                links=LEAD_LINKS,
            ),
            ACCEPTED,
        ),
        problems=(
            *("duplicate-lead", "lead-not-found", "key-reused", "operation-failed"),
            "unavailable",
        ),
        is_bounded=True,
    )
    async def create(self, call: Call) -> web.StreamResponse:
        """Answer 201 once the lead is committed."""
        body = await read_json_object(call.request, within=self._body_timeout)
        lead = call.parse(LeadInput, body)
        event_id = event_id_of(call.request, user=call.user, operation=CREATE)
        lead_id = lead_id_of(event_id)
        data = LeadCreated(
            lead_id=lead_id, source=LeadSource.MANUAL, created_by=call.user.id, lead=lead
        )
        return await self._write(call, event_id, data)

    @Endpoint(
        "PATCH",
        "/leads/{id}",
        id="updateLead",
        tag=Tag.LEADS,
        summary="Change a lead",
        explanation="Only the fields in the body are changed (RFC 7396): null clears one, except "
        "`firstName`, `lastName`, `email` and `status`. What a person has changed is not "
        "overwritten by a sync. `summaryStale` says whether the summary was written from "
        "something else.\n\n"
        "Changes take effect in the order in which they were accepted. One of a lead that was "
        "itself only accepted (202) waits until that is stored.",
        parameters=(LEAD_KEY, IF_MATCH, IDEMPOTENCY_KEY, PREFER),
        body=Body(
            content={MERGE_PATCH: LeadPatch, JSON: LeadPatch},
            examples={MERGE_PATCH: EXAMPLE_CHANGES, JSON: EXAMPLE_CHANGES},
        ),
        answers=(
            Answer.json(200, Lead, "The lead as it is now", headers=(ETAG,), links=LEAD_LINKS),
            ACCEPTED,
        ),
        problems=(
            *("lead-not-found", "duplicate-lead", "version-mismatch", "key-reused"),
            *("operation-failed", "unavailable"),
        ),
    )
    async def update(self, call: Call) -> web.StreamResponse:
        """Answer 200 with the lead as it is now."""
        body = await read_json_object(
            call.request, within=self._body_timeout, media_types=(MERGE_PATCH, *JSON_ONLY)
        )
        changes = call.parse(LeadPatch, body)
        event_id = event_id_of(call.request, user=call.user, operation=UPDATE)
        lead = await self._find_lead(call)
        data = LeadUpdated(
            lead_id=lead.lead_id,
            changes=changes,
            expected_version=expected_version(call.request, current=lead.version),
            updated_by=call.user.id,
        )
        return await self._write(call, event_id, data, partition_key=lead.partition_key)

    @Endpoint(
        "DELETE",
        "/leads/{id}",
        id="deleteLead",
        tag=Tag.LEADS,
        summary="Delete a lead, and forget the person",
        explanation="What is known of the person goes, wherever it is kept. No sync and no import "
        "brings the lead back; a person may create it anew.",
        parameters=(LEAD_KEY, IF_MATCH, PREFER),
        answers=(Answer(status=204, description="The lead is gone"), ACCEPTED),
        problems=("lead-not-found", "version-mismatch", "operation-failed", "unavailable"),
    )
    async def delete(self, call: Call) -> web.StreamResponse:
        """Answer 204 once the person's data is erased."""
        lead = await self._find_lead(call)
        data = LeadDeleted(
            lead_id=lead.lead_id,
            expected_version=expected_version(call.request, current=lead.version),
            deleted_by=call.user.id,
        )
        event_id = new_id()
        outcome = await self._publish(call, event_id, data, partition_key=lead.partition_key)
        if outcome is None:
            return accepted_response(event_id)
        if outcome.status is not OutcomeStatus.DELETED:
            raise refusal(outcome)
        return empty_response(204, headers=NO_STORE)

    @Endpoint(
        "PUT",
        "/leads/by-external-id/{externalId}",
        id="upsertLead",
        tag=Tag.LEADS,
        summary="Change the lead with this externalId, or create it",
        explanation="In one step. Optional fields that are left out stay as "
        "they are, and null clears them: but for `externalId`, which in the body is the one in "
        "the address, null, or left out.",
        parameters=(EXTERNAL_ID, IDEMPOTENCY_KEY, PREFER),
        body=Body.json(LeadPut, **EXAMPLE_INPUT),
        answers=(
            Answer.json(200, Lead, "The lead as it is now", headers=(ETAG,), links=LEAD_LINKS),
            Answer.json(201, Lead, "A new lead", headers=(LEAD_LOCATION, ETAG), links=LEAD_LINKS),
            ACCEPTED,
        ),
        problems=(
            *("duplicate-lead", "lead-not-found", "key-reused", "operation-failed"),
            "unavailable",
        ),
    )
    async def upsert(self, call: Call) -> web.StreamResponse:
        """Answer 200 with the lead changed, or 201 with a new one."""
        refuse_precondition(call.request)
        external_id = _external_id(call.param)
        lead = call.parse(LeadPut, await read_json_object(call.request, within=self._body_timeout))
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
        moved = await self._targets.moved_keys([external_id])
        return await self._write(call, event_id, data, partition_key=moved.get(external_id))

    async def _find_lead(self, call: Call) -> Target:
        return await self._targets.find(canonical_id(call.param, missing=NOT_FOUND))

    async def _write(
        self, call: Call, event_id: UUID, data: LeadWrite, *, partition_key: str | None = None
    ) -> web.StreamResponse:
        """Publish a write that a client may repeat, and answer with the lead or 202."""
        await self._keys.check_key(call.request, event_id, data.intent)
        outcome = await self._publish(call, event_id, data, partition_key=partition_key)
        return accepted_response(event_id) if outcome is None else _stored_response(call, outcome)

    async def _publish(
        self, call: Call, event_id: UUID, data: LeadWrite, *, partition_key: str | None
    ) -> Outcome | None:
        event = call.event(
            data,
            id=event_id,
            subject=data.lead_id,
            reply_to=self._exchange.reply_address,
            partition_key=partition_key,
        )
        if prefers_async(call.request):
            await self._exchange.publish(event)
            return None
        return await self._exchange.publish_and_await(event, within=self._timeout)


def _stored_response(call: Call, outcome: Outcome) -> web.StreamResponse:
    """Answer with the lead, 201 when it is new; raises `Problem` when it was not written."""
    status = _STATUSES.get(outcome.status)
    if status is None:
        raise refusal(outcome)
    lead = orjson.loads(outcome.body)
    # An upsert may have met one that was there.
    call.ids = {**(call.ids or {}), "lead_id": lead["id"]}
    response = lead_response(outcome.body, version=lead["version"], status=status)
    if status == web.HTTPCreated.status_code:
        response.headers[hdrs.LOCATION] = f"/leads/{lead['id']}"
    return response


def refusal(outcome: Outcome) -> Problem:
    """Return the problem of a write that was not carried out."""
    match outcome.status:
        case OutcomeStatus.DUPLICATE:
            conflict = orjson.loads(outcome.body)
            detail = f"The {conflict['field']} is another lead's"
            return Problem("duplicate-lead", detail, members=conflict)
        case OutcomeStatus.VERSION_MISMATCH:
            return version_mismatch(orjson.loads(outcome.body)["version"])
        case _:
            return problem_of(outcome)


def version_mismatch(version: int) -> Problem:
    """Return the refusal of a write to a lead that is in this version, not the one expected."""
    return Problem(
        "version-mismatch",
        f"The lead is in version {version}",
        members={"version": version},
        headers={hdrs.ETAG: f'"{version}"'},
    )


def expected_version(request: web.BaseRequest, *, current: int) -> int | None:
    """Return the version that the lead has to be in; None when any will do.

    `current` is the version it was seen in, which another write may overtake: whether it is the
    expected one is decided where it is written. Raises `Problem` 400, and 412 when the header
    names no version at all.
    """
    if hdrs.IF_MATCH not in request.headers:
        return None
    tags = entity_tags(request.headers, hdrs.IF_MATCH)
    if tags is None:
        return None
    versions = versions_of(tags)
    if not versions:
        raise version_mismatch(current)
    return current if current in versions else max(versions)


def refuse_precondition(request: web.BaseRequest) -> None:
    """Raise `Problem` 400 for an If-Match or If-None-Match that would be ignored."""
    instead: dict[str, str] = {hdrs.IF_MATCH: "PATCH", hdrs.IF_NONE_MATCH: "POST"}
    ignored = {
        name: f"Is not heeded here; send a {method} instead"
        for name, method in instead.items()
        if name in request.headers
    }
    if ignored:
        raise validation_problem(ignored)


def _external_id(text: str) -> UUID:
    try:
        return UUID(canonical_id(text, missing=NOT_FOUND))
    except Problem:
        raise validation_problem({"externalId": "Must be a UUID"}) from None
