"""POST /leads/{id}/summary: what the summarizer's outcomes are to the client."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import httpx
import orjson
import pytest

from shared.events.data import SummaryRequested
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.pool import Database
from tests.support.api import OpenApi
from tests.support.auth_server import USER_ID
from tests.support.responder import Responder
from tests.support.stored_leads import store_lead

Lead = dict[str, object]


@pytest.fixture
async def lead(database: Database) -> Lead:
    stored: Lead = orjson.loads((await store_lead(database)).json)
    return stored


def summarised(lead: Lead) -> Outcome:
    changed = lead | {"summary": "A mathematician.", "nextAction": "Write.", "version": 2}
    return Outcome(OutcomeStatus.SUMMARISED, orjson.dumps(changed))


def failed(reason: str, **more: object) -> Outcome:
    return Outcome(OutcomeStatus.FAILED, orjson.dumps({"reason": reason, **more}))


@pytest.mark.parametrize("key", ["id", "externalId"])
async def test_a_summary_is_answered_with_the_lead(
    key: str, api: httpx.AsyncClient, lead: Lead, summarizer: Responder
) -> None:
    summarizer.outcome = summarised(lead)
    response = await api.post(f"/leads/{lead[key]}/summary")
    assert response.status_code == 200
    assert response.headers["X-Summary-Cache"] == "miss"
    assert response.json()["summary"] == "A mathematician."
    assert response.headers["ETag"] == '"2"'
    (event,) = summarizer.events
    assert isinstance(event.data, SummaryRequested)
    assert str(event.data.lead_id) == lead["id"] == event.subject
    assert (event.data.requested_by, event.data.regenerate) == (USER_ID, False)
    assert event.correlation_id == response.headers["X-Request-Id"]


async def test_a_reused_summary_is_marked(
    api: httpx.AsyncClient, lead: Lead, summarizer: Responder
) -> None:
    summarizer.outcome = replace(summarised(lead), status=OutcomeStatus.REUSED)
    response = await api.post(f"/leads/{lead['id']}/summary")
    assert response.status_code == 200
    assert response.headers["X-Summary-Cache"] == "hit"


async def test_a_key_is_for_one_request(
    api: httpx.AsyncClient, lead: Lead, summarizer: Responder, database: Database
) -> None:
    summarizer.outcome = summarised(lead)
    other: Lead = orjson.loads((await store_lead(database)).json)
    headers = {"Idempotency-Key": "once"}
    answers = [
        await api.post(f"/leads/{one['id']}/summary", headers=headers)
        for one in (lead, lead, other)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    first, second = summarizer.events
    assert first.id == second.id


@pytest.mark.parametrize(("query", "regenerate"), [("true", True), ("false", False)])
async def test_a_new_summary_can_be_asked_for(
    query: str,
    regenerate: bool,  # noqa: FBT001 (a parameter of the table)
    api: httpx.AsyncClient,
    lead: Lead,
    summarizer: Responder,
) -> None:
    summarizer.outcome = summarised(lead)
    await api.post(f"/leads/{lead['id']}/summary?regenerate={query}")
    (event,) = summarizer.events
    assert isinstance(event.data, SummaryRequested)
    assert event.data.regenerate == regenerate


@pytest.mark.parametrize(
    ("outcome", "status", "code", "retry_after"),
    [
        (failed("invalid-output"), 502, "invalid-model-output", None),
        (failed("rate-limited", retryAfter=7.2), 429, "rate-limited", "8"),
        (failed("quota", detail="Enough for today", retryAfter=3600), 429, "rate-limited", "3600"),
        (failed("provider-unavailable"), 503, "summaries-unavailable", "10"),
        (failed("provider-refused"), 503, "summaries-unavailable", "10"),
        (failed("timeout"), 503, "summaries-unavailable", "10"),
        (failed("circuit-open"), 503, "summaries-unavailable", "10"),
        (failed("expired"), 503, "summaries-unavailable", "10"),
        (failed("a reason of a newer summarizer"), 503, "summaries-unavailable", "10"),
        (Outcome(OutcomeStatus.NOT_FOUND), 404, "lead-not-found", None),
        (Outcome(OutcomeStatus.KEY_REUSED), 422, "key-reused", None),
        (Outcome(OutcomeStatus.DEAD, b'{"reason":"crash"}'), 500, "operation-failed", None),
    ],
)
async def test_a_failure_is_explained(
    outcome: Outcome,
    status: int,
    code: str,
    retry_after: str | None,
    api: httpx.AsyncClient,
    lead: Lead,
    summarizer: Responder,
) -> None:
    summarizer.outcome = outcome
    response = await api.post(f"/leads/{lead['id']}/summary")
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers.get("Retry-After") == retry_after


async def test_an_unknown_lead_costs_the_summarizer_nothing(
    api: httpx.AsyncClient, summarizer: Responder
) -> None:
    for key in (str(uuid4()), "7"):
        response = await api.post(f"/leads/{key}/summary")
        assert (response.status_code, response.json()["code"]) == (404, "lead-not-found")
    assert summarizer.events == []


@pytest.mark.parametrize(
    ("body", "regenerate"),
    [
        (b"", False),
        (b"{}", False),
        (b" \r\n", False),
        (b'{"regenerate": false}', False),
        (b'{"regenerate": true}', True),
    ],
)
async def test_a_body_may_say_the_same(
    body: bytes,
    regenerate: bool,  # noqa: FBT001 (a parameter of the table)
    api: httpx.AsyncClient,
    lead: Lead,
    summarizer: Responder,
) -> None:
    summarizer.outcome = summarised(lead)
    headers = {"Content-Type": "application/json"}
    response = await api.post(f"/leads/{lead['id']}/summary", content=body, headers=headers)
    assert response.status_code == 200
    (event,) = summarizer.events
    assert isinstance(event.data, SummaryRequested)
    assert event.data.regenerate == regenerate


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b'{"force": true}', "application/json", 400),
        (b'{"regenerate": "yes"}', "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"{", "application/json", 400),
        (b"regenerate=true", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_a_body_is_not_ignored(
    body: bytes, media_type: str, status: int, aloof_api: httpx.AsyncClient
) -> None:
    headers = {"Content-Type": media_type}
    response = await aloof_api.post(f"/leads/{uuid4()}/summary", content=body, headers=headers)
    assert response.status_code == status


@pytest.mark.parametrize("query", ["regenerate=yes", "regenerate=", "force=true"])
async def test_a_senseless_query_is_refused(query: str, api: httpx.AsyncClient, lead: Lead) -> None:
    response = await api.post(f"/leads/{lead['id']}/summary?{query}")
    assert response.status_code == 400


async def test_past_the_deadline_the_answer_is_where_to_ask(
    open_api: OpenApi, lead: Lead, summarizer: Responder
) -> None:
    async with open_api(summary_timeout=timedelta(milliseconds=200)) as api:
        response = await api.post(f"/leads/{lead['id']}/summary")
        assert response.status_code == 202
        operation = (await api.get(response.headers["Location"])).json()
    assert operation == {"id": str(summarizer.events[0].id), "status": "pending"}


async def test_a_client_need_not_wait(api: httpx.AsyncClient, lead: Lead) -> None:
    async with asyncio.timeout(10):  # and not 30 s
        response = await api.post(
            f"/leads/{lead['id']}/summary", headers={"Prefer": "respond-async"}
        )
    assert response.status_code == 202
