"""What the Groq stand-in does wrong on demand, as Groq would."""

import asyncio
import json

import groq
import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from devstack.standins.groq import GroqFaults
from devstack.standins.serving import Control, install
from tests.integration.devstack.standins.groq.conftest import SCHEMA, ask, content, strict


async def control(http: httpx.AsyncClient, url: URL, **faults: object) -> None:
    (await http.post(str(url / "_control"), json=faults)).raise_for_status()


@pytest.mark.parametrize(
    ("status", "error", "waits"),
    [
        (400, groq.BadRequestError, False),
        (401, groq.AuthenticationError, False),
        (429, groq.RateLimitError, True),
        (498, groq.APIStatusError, True),
        (500, groq.InternalServerError, False),
        (503, groq.InternalServerError, True),
    ],
)
async def test_fails_on_demand_as_groq_does(
    client: groq.AsyncGroq,
    groq_url: URL,
    http: httpx.AsyncClient,
    *,
    status: int,
    error: type[groq.APIStatusError],
    waits: bool,
) -> None:
    await control(http, groq_url, status=status, retry_after=7)
    with pytest.raises(error) as caught:
        await ask(client)
    assert caught.value.status_code == status
    assert set(caught.value.response.json()["error"]) >= {"message", "type"}
    assert caught.value.response.headers.get("retry-after") == ("7" if waits else None)


async def test_requests_a_minute_are_limited(
    client: groq.AsyncGroq, groq_url: URL, http: httpx.AsyncClient
) -> None:
    await control(http, groq_url, rate_limit_rpm=2)
    await ask(client)
    await ask(client)
    with pytest.raises(
        groq.RateLimitError, match=r"requests per minute \(RPM\): Limit 2"
    ) as caught:
        await ask(client)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


async def test_tokens_a_minute_are_limited(
    client: groq.AsyncGroq, groq_url: URL, http: httpx.AsyncClient
) -> None:
    await control(http, groq_url, rate_limit_tpm=200)
    await ask(client, max_completion_tokens=100)
    with pytest.raises(groq.RateLimitError, match=r"tokens per minute \(TPM\): Limit 200"):
        await ask(client, max_completion_tokens=100)
    with pytest.raises(groq.APIStatusError, match="Request too large") as caught:
        await ask(client, max_completion_tokens=1000)
    assert caught.value.status_code == 413


async def test_answers_the_text_it_is_given(
    client: groq.AsyncGroq, groq_url: URL, http: httpx.AsyncClient
) -> None:
    await control(http, groq_url, answer="{}", answers=["prose", "```json\n{}\n```"])
    said = [content(await ask(client, response_format=strict(SCHEMA))) for _ in range(4)]
    assert said == ["prose", "```json\n{}\n```", "{}", "{}"]


async def test_garbage_breaks_the_library(
    client: groq.AsyncGroq, groq_url: URL, http: httpx.AsyncClient
) -> None:
    await control(http, groq_url, garbage=True)
    with pytest.raises(json.JSONDecodeError):
        await ask(client)


async def test_hangs_until_the_caller_gives_up(
    client: groq.AsyncGroq, groq_url: URL, http: httpx.AsyncClient
) -> None:
    await control(http, groq_url, hang=True)
    with pytest.raises(groq.APITimeoutError):
        await ask(client, timeout=0.1)
    await control(http, groq_url, hang=False)
    assert content(await ask(client))


async def test_counts_calls_and_the_most_at_once(
    client: groq.AsyncGroq, groq_url: URL, http: httpx.AsyncClient
) -> None:
    await control(http, groq_url, delay=0.2, error_rate=0.25)
    answers = await asyncio.gather(*(ask(client) for _ in range(8)), return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, groq.InternalServerError)]
    assert len(failed) == 2
    view = (await http.get(str(groq_url / "_control"))).json()
    assert view["counters"] == {
        "requests": 8,
        "in_flight": 0,
        "most_in_flight": 8,
        "completions": 6,
        "status_200": 6,
        "status_500": 2,
    }
    assert view["faults"]["delay"] == 0.2
    assert "Vlatka" in view["last_request"]["messages"][1]["content"]


@pytest.mark.parametrize("body", ['{"hung": true}', '{"status": 200}', "[]", "{", '{"delay": -1}'])
async def test_an_impossible_fault_is_refused_and_changes_nothing(
    groq_url: URL, http: httpx.AsyncClient, body: str
) -> None:
    before = (await http.get(str(groq_url / "_control"))).json()
    answer = await http.post(str(groq_url / "_control"), content=body)
    assert answer.status_code == 400
    assert (await http.get(str(groq_url / "_control"))).json() == before


async def test_a_reset_brings_good_behaviour_back(
    client: groq.AsyncGroq, groq_url: URL, http: httpx.AsyncClient
) -> None:
    await control(http, groq_url, status=500, delay=0.01)
    with pytest.raises(groq.InternalServerError):
        await ask(client)
    view = (await http.delete(str(groq_url / "_control"))).json()
    assert view["counters"] == {"in_flight": 0}
    assert view["faults"]["status"] is None
    assert content(await ask(client))


@pytest.mark.parametrize("remote", ["203.0.113.9", "2001:db8::1"])
async def test_faults_are_only_this_machines_to_switch(remote: str) -> None:
    control = Control(GroqFaults())
    app = web.Application()
    install(app, control, refuse=lambda status: web.Response(status=status))
    request = make_mocked_request("GET", "/_control", app=app).clone(remote=remote)
    route = await app.router.resolve(request)
    with pytest.raises(web.HTTPForbidden):
        await route.handler(request)
