"""Groq's own client, and what it is asked."""

import json
from collections.abc import AsyncGenerator
from typing import Any, cast

import groq
import pytest
from groq.types.chat import ChatCompletion
from yarl import URL

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
