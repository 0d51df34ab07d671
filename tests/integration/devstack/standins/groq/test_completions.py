"""Groq's chat completions, driven by Groq's own client library."""

import json
from typing import Any

import groq
import httpx
import pytest
from yarl import URL

from tests.integration.devstack.standins.groq.conftest import (
    LEAD,
    OTHER_MODEL,
    SCHEMA,
    STRICT_MODEL,
    ask,
    content,
    strict,
)


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
