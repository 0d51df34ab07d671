"""Summaries through the whole system, by a model that is slow, and one that babbles."""

import asyncio
import time
from typing import Any

import orjson
import pytest

from shared.storage.pool import Database
from tests.support.api_client import ApiClient
from tests.support.standin_control import StandInControl

GOOD = {"summary": "Ada lives in London.", "next_action": "Call Ada."}


def saying(**changes: Any) -> str:
    return orjson.dumps(GOOD | changes).decode()


async def test_ten_summaries_of_one_lead_are_one_call(
    client: ApiClient, groq: StandInControl
) -> None:
    lead = await client.create()
    async with groq.misbehaving(delay=0.5):
        answers = await asyncio.gather(
            *(
                client.post(f"/leads/{lead['id' if number % 2 else 'externalId']}/summary")
                for number in range(10)
            )
        )
        assert [answer.status for answer in answers] == [200] * 10
        assert len({answer.body for answer in answers}) == 1
        assert await groq.counter("completions") == 1
        # What is written already is given again, and written anew when asked.
        again = await client.post(f"/leads/{lead['id']}/summary")
        assert again.json == answers[0].json
        assert await groq.counter("completions") == 1
        anew = await client.post(f"/leads/{lead['id']}/summary?regenerate=true")
        assert anew.json["version"] > again.json["version"]
        assert await groq.counter("completions") == 2


async def test_a_slow_model_holds_up_nobody_else(client: ApiClient, groq: StandInControl) -> None:
    leads = await asyncio.gather(*(client.create() for _ in range(20)))
    async with groq.misbehaving(delay=3):
        started = time.monotonic()
        waiting = [
            asyncio.create_task(client.post(f"/leads/{lead['id']}/summary"), name="summary")
            for lead in leads
        ]
        await groq.is_asked()
        await client.read(leads[0]["id"])
        assert not any(task.done() for task in waiting)
        answers = await asyncio.gather(*waiting)
        seconds = time.monotonic() - started
        assert [answer.status for answer in answers] == [200] * 20
        assert await groq.counter("most_in_flight") == 20
    # One after another they would take a minute.
    assert 3 <= seconds < 15


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param("Ada lives in London. Call her.", id="prose"),
        pytest.param(f"{saying()}\n{saying(summary='Another one.')}", id="two answers"),
        pytest.param(saying(next_action="Log in at evil[.]example."), id="link"),
        pytest.param("{}", id="empty object"),
        pytest.param("null", id="null"),
        pytest.param(saying(summary=None), id="null field"),
        pytest.param(saying(summary=42), id="number"),
        pytest.param(saying(next_action={"do": "Call Ada."}), id="object"),
        pytest.param(saying(summary="S" * 5_000), id="5,000 characters"),
        pytest.param(saying(summary="\0"), id="NUL"),
    ],
)
async def test_nonsense_from_the_model_is_not_kept(
    nonsense: str, client: ApiClient, groq: StandInControl, stack_database: Database
) -> None:
    lead = await client.create()
    async with groq.misbehaving(answer=nonsense):
        answer = await client.post(f"/leads/{lead['externalId']}/summary")
    assert (answer.status, answer.code) == (502, "invalid-model-output")
    assert await client.read(lead["id"]) == lead
    assert await client.read(lead["externalId"]) == lead
    async with stack_database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT lead.summary, lead.next_action, summary.summary AS kept"
            " FROM leads.lead JOIN leads.summary ON summary.lead_id = lead.id"
            " WHERE lead.id = $1",
            lead["id"],
        )
    assert row is not None
    assert tuple(row) == (None, None, None)
    # The lead is none the worse for it.
    assert (await client.post(f"/leads/{lead['id']}/summary")).status == 200


async def test_nul_inside_a_good_answer_is_dropped(client: ApiClient, groq: StandInControl) -> None:
    lead = await client.create()
    async with groq.misbehaving(answer=saying(summary="Ada\0 lives in London.")):
        answer = await client.post(f"/leads/{lead['id']}/summary")
    assert (answer.status, answer.json["summary"]) == (200, "Ada lives in London.")
    assert await client.read(lead["id"]) == answer.json


async def test_a_second_answer_mends_a_bad_first(client: ApiClient, groq: StandInControl) -> None:
    lead = await client.create()
    async with groq.misbehaving(answers=["Here you are!", saying()]):
        answer = await client.post(f"/leads/{lead['id']}/summary")
    assert (answer.status, answer.json["nextAction"]) == (200, "Call Ada.")


async def test_a_client_need_not_wait(client: ApiClient, groq: StandInControl) -> None:
    lead = await client.create()
    async with groq.misbehaving(delay=0.3):
        accepted = await client.post(
            f"/leads/{lead['id']}/summary", headers={"Prefer": "respond-async"}
        )
        operation = await client.outcome_of(accepted)
    assert (operation["status"], operation["leadId"]) == ("succeeded", lead["id"])
    assert (await client.read(lead["externalId"]))["summary"]


async def test_a_lead_that_is_not_there_has_no_summary(client: ApiClient) -> None:
    answer = await client.post("/leads/0b9c1f5e-6a3b-4e0f-9d53-b1b2a5c0ffee/summary")
    assert (answer.status, answer.code) == (404, "lead-not-found")
