"""Groq's chat completions, driven by Groq's own client library."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, cast

import groq
import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from groq.types.chat import ChatCompletion
from yarl import URL

from devstack.standins.groq import GroqFaults
from devstack.standins.serving import Control, install

LEAD = {
    "firstName": "Vlatka",
    "lastName": "Rajković",
    "city": "Topola",
    "state": "Bor",
    "country": "Serbia",
    "status": "new",
    "source": "randomuser",
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "summary": {"type": "string", "maxLength": 1000},
        "next_action": {"type": "string"},
    },
    "required": ["summary", "next_action"],
    "additionalProperties": False,
}
STRICT_MODEL, OTHER_MODEL = "openai/gpt-oss-20b", "llama-3.1-8b-instant"


@pytest.fixture
async def client(groq_url: URL) -> AsyncGenerator[groq.AsyncGroq]:
    async with groq.AsyncGroq(api_key="gsk_any", base_url=str(groq_url), max_retries=0) as opened:
        yield opened


async def ask(client: groq.AsyncGroq, model: str = STRICT_MODEL, **options: Any) -> ChatCompletion:
    # The overloads of `create` want literals; the options come from the tests.
    completions = cast("Any", client.chat.completions)
    answer = await completions.create(
        model=model,
        messages=[
            {"role": "system", "content": "Summarise the lead. Answer in JSON."},
            {"role": "user", "content": f"<lead>{json.dumps(LEAD)}</lead>"},
        ],
        **options,
    )
    assert isinstance(answer, ChatCompletion)
    return answer


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "lead_summary", "schema": schema, "strict": True},
    }


def content(answer: ChatCompletion) -> str:
    text = answer.choices[0].message.content
    assert text is not None
    return text


async def control(http: httpx.AsyncClient, url: URL, **faults: object) -> None:
    (await http.post(str(url / "_control"), json=faults)).raise_for_status()


async def test_writes_a_summary_that_fits_the_schema(client: groq.AsyncGroq) -> None:
    answer = await ask(client, response_format=strict(SCHEMA), max_completion_tokens=500)
    written = json.loads(content(answer))
    assert set(written) == {"summary", "next_action"}
    assert written["summary"].startswith("Vlatka Rajković lives in Topola, Bor, Serbia")
    assert len(written["next_action"]) > 10
    assert content(await ask(client, response_format=strict(SCHEMA))) == content(answer)


async def test_writes_about_the_same_lead_when_asked_again(client: groq.AsyncGroq) -> None:
    conversation: list[Any] = [
        {
            "role": "system",
            "content": 'Summarise the lead as {"summary": "...", "next_action": ""}.',
        },
        {"role": "user", "content": f"<lead>{json.dumps(LEAD)}</lead>"},
        {"role": "assistant", "content": '{"summary": 1}'},
        {"role": "user", "content": "That was not what is needed. Write the JSON again."},
    ]
    answer = await client.chat.completions.create(model=STRICT_MODEL, messages=conversation)
    assert content(answer).startswith("Vlatka Rajković lives in Topola, Bor, Serbia")


async def test_answers_in_groqs_shape(client: groq.AsyncGroq) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model=OTHER_MODEL, messages=[{"role": "user", "content": "Hello"}]
    )
    answer = await raw.parse()
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == OTHER_MODEL
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert usage.total_time is not None
    assert answer.x_groq is not None
    assert answer.x_groq.id.startswith("req_")
    assert raw.headers["x-request-id"].startswith("req_")
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) > 0
    assert "retry-after" not in raw.headers


async def test_fills_any_schema(client: groq.AsyncGroq) -> None:
    schema = {
        "type": "object",
        "properties": {
            "score": {"type": "integer", "minimum": 7},
            "tone": {"enum": ["warm", "cold"]},
            "urgent": {"type": ["boolean", "null"]},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "$defs": {"tag": {"type": "string", "maxLength": 3}},
    }
    answer = await ask(
        client,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "any", "schema": schema},
        },
    )
    assert json.loads(content(answer)) == {
        "score": 7,
        "tone": "warm",
        "urgent": True,
        "tags": ["No "],
        "note": "No note is on record.",
    }


@pytest.mark.parametrize("model", [STRICT_MODEL, OTHER_MODEL])
async def test_json_mode_answers_an_object(client: groq.AsyncGroq, model: str) -> None:
    answer = await ask(client, model, response_format={"type": "json_object"})
    assert set(json.loads(content(answer))) == {"summary", "next_action"}


async def test_json_mode_needs_the_word_json(client: groq.AsyncGroq) -> None:
    with pytest.raises(groq.BadRequestError, match="must contain the word 'json'"):
        await client.chat.completions.create(
            model=OTHER_MODEL,
            messages=[{"role": "user", "content": "Summarise"}],
            response_format={"type": "json_object"},
        )


@pytest.mark.parametrize(
    ("model", "schema", "message"),
    [
        (OTHER_MODEL, SCHEMA, "does not support response format"),
        ("moonshotai/kimi-k2-instruct-0905", SCHEMA, "does not support `strict"),
        (STRICT_MODEL, {**SCHEMA, "required": ["summary"]}, "including every key in properties"),
        (STRICT_MODEL, {**SCHEMA, "additionalProperties": True}, "additionalProperties:false"),
    ],
)
async def test_refuses_schemas_that_groq_refuses(
    client: groq.AsyncGroq, model: str, schema: dict[str, Any], message: str
) -> None:
    with pytest.raises(groq.BadRequestError, match=message):
        await ask(client, model, response_format=strict(schema))


async def test_too_few_tokens_cut_the_text_and_break_the_json(client: groq.AsyncGroq) -> None:
    answer = await ask(client, max_completion_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    with pytest.raises(groq.BadRequestError) as caught:
        await ask(client, response_format=strict(SCHEMA), max_completion_tokens=3)
    assert caught.value.body is not None
    assert "json_validate_failed" in caught.value.message
    assert "failed_generation" in caught.value.message


async def test_needs_a_key_and_a_model_it_knows(
    client: groq.AsyncGroq, groq_url: URL, http: httpx.AsyncClient
) -> None:
    answer = await http.post(str(groq_url / "openai/v1/chat/completions"), json={})
    assert answer.status_code == 401
    assert answer.json() == {
        "error": {
            "message": "Invalid API Key",
            "type": "invalid_request_error",
            "code": "invalid_api_key",
        }
    }
    with pytest.raises(groq.NotFoundError, match="model_not_found"):
        await ask(client, "gpt-1")
    with pytest.raises(groq.NotFoundError, match="unknown_url"):
        await client.get("/openai/v1/nothing", cast_to=object)


async def test_lists_its_models(client: groq.AsyncGroq) -> None:
    models = await client.models.list()
    assert STRICT_MODEL in {model.id for model in models.data}


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


async def test_says_what_it_is_told(
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
