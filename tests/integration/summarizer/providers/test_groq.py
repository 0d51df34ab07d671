"""The Groq provider with the vendor's own library, against what Groq answers."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import date, timedelta
from typing import Any

import pytest
from aiohttp import web
from pydantic import HttpUrl

from devstack.free_ports import free_port
from devstack.standins import groq as standin
from devstack.standins.serving import ListenSettings, running
from services.summarizer.answers import read_answer
from services.summarizer.prompts import write_prompt
from services.summarizer.providers import ProviderError
from services.summarizer.providers.groq import GroqProvider, open_groq
from shared.domain.summary import FailureReason
from tests.support.facts import facts
from tests.support.repository import ROOT

SAMPLES = ROOT / "tests/support/samples"
ERRORS = json.loads((SAMPLES / "groq-errors.json").read_text())
PROMPT = write_prompt(facts(), today=date(2026, 11, 24))
LONG = timedelta(seconds=10)

Open = Callable[..., AbstractAsyncContextManager[GroqProvider]]


def open_at(url: Any, *, model: str = "openai/gpt-oss-20b") -> Any:
    return open_groq(
        api_key="gsk_tests",
        base_url=str(HttpUrl(str(url))),
        model=model,
        max_tokens=500,
        concurrency=10,
    )


class Recorder:
    """A server that answers one thing and keeps what it was asked."""

    def __init__(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self.paths: list[str] = []
        self.keys: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self._status = status
        self._headers = headers or {}
        self._body = body

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[Any]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        async with running(app, ListenSettings()) as url:
            yield url

    async def _answer(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        self.keys.append(request.headers["Authorization"])
        self.bodies.append(await request.json())
        if isinstance(self._body, str):
            return web.Response(status=self._status, text=self._body, headers=self._headers)
        return web.json_response(self._body, status=self._status, headers=self._headers)


def completion(content: str | None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "openai/gpt-oss-20b",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


@pytest.mark.parametrize("sample", ERRORS, ids=[error["name"] for error in ERRORS])
async def test_error(sample: dict[str, Any]) -> None:
    server = Recorder(sample["status"], sample["body"], sample["headers"])
    async with server.serving() as url, open_at(url) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(PROMPT, timeout=LONG)
    error = caught.value
    assert (error.reason, error.passing) == (sample["reason"], sample["passing"])
    wait = sample.get("retry_after")
    assert error.retry_after == (None if wait is None else timedelta(seconds=wait))
    assert len(server.paths) == 1  # the library's own retries are off
    assert "Ada" not in str(error)
    assert "org_" not in error.detail


async def test_answer_and_its_price() -> None:
    server = Recorder(200, completion("anything"))
    async with server.serving() as url, open_at(url) as provider:
        answered = await provider.complete(PROMPT, timeout=LONG)
    assert (answered.text, answered.tokens_in, answered.tokens_out) == ("anything", 7, 3)
    [body] = server.bodies
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["max_completion_tokens"] == 500
    assert "tools" not in body


@pytest.mark.parametrize(
    "body", [completion(None), completion(""), completion(None) | {"usage": None}]
)
async def test_answer_without_text(body: dict[str, Any]) -> None:
    server = Recorder(200, body)
    async with server.serving() as url, open_at(url) as provider:
        assert (await provider.complete(PROMPT, timeout=LONG)).text == ""


MISSHAPEN: list[Any] = [
    {},
    [],
    {"choices": []},
    {"choices": "none"},
    {"choices": [{}]},
    completion("x") | {"usage": {"prompt_tokens": "many"}},
    completion("x") | {"choices": [{"message": {"content": {"summary": "x"}}}]},
]


@pytest.mark.parametrize("body", MISSHAPEN, ids=range(len(MISSHAPEN)))
async def test_json_of_another_shape(body: Any) -> None:
    server = Recorder(200, body)
    async with server.serving() as url, open_at(url) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(PROMPT, timeout=LONG)
    assert caught.value.reason is FailureReason.PROVIDER_UNAVAILABLE


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/openai/v1/chat/completions"),
        ("/", "/openai/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/openai/v1", "/openai/v1/chat/completions"),
        ("/proxy/groq/openai/v1", "/proxy/groq/openai/v1/chat/completions"),
    ],
)
async def test_base_url_is_a_host_or_an_api(base: str, path: str) -> None:
    server = Recorder(200, completion("x"))
    async with server.serving() as url, open_at(f"{url}".rstrip("/") + base) as provider:
        await provider.complete(PROMPT, timeout=LONG)
    assert server.paths == [path]
    assert server.keys == ["Bearer gsk_tests"]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("openai/gpt-oss-20b", "json_schema"),
        ("openai/gpt-oss-120b", "json_schema"),
        ("llama-3.1-8b-instant", "json_object"),
        ("qwen2.5:7b", "json_object"),
    ],
)
async def test_schema_where_the_model_has_it(model: str, kind: str) -> None:
    server = Recorder(200, completion("x"))
    async with server.serving() as url, open_at(url, model=model) as provider:
        await provider.complete(PROMPT, timeout=LONG)
    response_format = server.bodies[0]["response_format"]
    assert response_format["type"] == kind
    if kind == "json_schema":
        assert response_format["json_schema"]["strict"] is True


async def test_slow_server_is_a_timeout_and_a_closed_port_is_not() -> None:
    settings = standin.GroqSettings(faults=standin.GroqFaults(hang=True))
    async with running(standin.create_app(settings), settings) as url, open_at(url) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(PROMPT, timeout=timedelta(milliseconds=200))
    assert caught.value.reason is FailureReason.TIMEOUT
    async with open_at(f"http://127.0.0.1:{free_port()}") as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(PROMPT, timeout=LONG)
    assert caught.value.reason is FailureReason.PROVIDER_UNAVAILABLE


@pytest.mark.parametrize("model", ["openai/gpt-oss-20b", "llama-3.3-70b-versatile"])
async def test_stand_in_takes_the_request_and_its_answer_is_proper(model: str) -> None:
    settings = standin.GroqSettings()
    async with (
        running(standin.create_app(settings), settings) as url,
        open_at(url, model=model) as provider,
    ):
        answered = await provider.complete(PROMPT, timeout=LONG)
    assert "Ada Lovelace" in read_answer(answered.text).summary


async def test_answer_that_groq_itself_found_improper() -> None:
    settings = standin.GroqSettings(faults=standin.GroqFaults(status=400))
    async with running(standin.create_app(settings), settings) as url, open_at(url) as provider:
        assert (await provider.complete(PROMPT, timeout=LONG)).text == "{"
