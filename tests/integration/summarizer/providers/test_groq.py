"""The Groq provider with the vendor's own library, against what Groq answers."""

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web
from pydantic import HttpUrl
from redis.asyncio import Redis

from devstack.free_ports import free_port
from devstack.standins import groq as standin
from devstack.standins.serving import ListenSettings, running
from services.summarizer.answers import read_answer
from services.summarizer.prompts import write_prompt
from services.summarizer.providers import ProviderError
from services.summarizer.providers.groq import GroqProvider, limit_name, open_groq
from services.summarizer.storage.budget import MinuteBudget
from services.summarizer.upstream import (
    CHARACTERS_A_TOKEN,
    Deadline,
    ModelCircuit,
    Upstream,
    Usage,
)
from shared.domain.summary import FailureReason
from tests.support.facts import facts
from tests.support.repository import ROOT
from tests.support.summaries import answer

SAMPLES = ROOT / "tests/support/samples"
ERRORS = json.loads((SAMPLES / "groq-errors.json").read_text())
PROMPT = write_prompt(facts(), today=date(2026, 11, 24))
LONGER = write_prompt(facts(city="Grönland 🦊"), today=date(2026, 11, 24))
LONG = timedelta(seconds=10)
GOOD = answer()

Open = Callable[..., AbstractAsyncContextManager[GroqProvider]]


def open_at(url: Any, *, model: str = "openai/gpt-oss-20b", most: int = 500) -> Any:
    return open_groq(
        api_key="gsk_tests",
        base_url=str(HttpUrl(str(url))),
        model=model,
        max_tokens=most,
        concurrency=10,
    )


class Recorder:
    """A server that answers one thing and keeps what it was asked."""

    def __init__(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
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
        self.headers.append(dict(request.headers))
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
    assert body["max_tokens"] == 500
    assert "tools" not in body


async def test_each_call_has_the_library_s_headers_and_a_body_of_its_own() -> None:
    server, prompts = Recorder(200, completion("anything")), [PROMPT, LONGER, PROMPT]
    async with server.serving() as url, open_at(url) as provider:
        for prompt in prompts:
            await provider.complete(prompt, timeout=LONG)
    first, *others = ({**one, "Content-Length": ""} for one in server.headers)
    assert first["Authorization"] == "Bearer gsk_tests"
    assert first["Content-Type"] == "application/json"
    assert first["User-Agent"].startswith("AsyncGroq/Python")
    assert others == [first, first]
    written = [[one["content"] for one in body["messages"]] for body in server.bodies]
    assert written == [[one.content for one in prompt.messages] for prompt in prompts]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.groq.com/openai/v1", "max_completion_tokens"),
        ("http://localhost:11434/v1", "max_tokens"),
        ("https://vllm.example.com", "max_tokens"),
    ],
)
def test_the_limit_of_an_answer_has_the_name_that_the_server_knows(url: str, name: str) -> None:
    assert limit_name(httpx.URL(url)) == name


def in_an_hour(**zone: str) -> str:
    moment = datetime.now(UTC) + timedelta(hours=1)
    return moment.strftime(zone.get("form", "%a, %d %b %Y %H:%M:%S GMT"))


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "2.5"}, 2.5, 2.5),
        ({"Retry-After": in_an_hour()}, 3_000, 3_600),
        ({"Retry-After": in_an_hour(form="%A, %d-%b-%y %H:%M:%S GMT")}, 3_000, 3_600),
        # A server whose clock is wrong; one that is in the past; too long a wait.
        (
            {
                "Retry-After": "Sat, 01 Jan 2000 10:00:30 GMT",
                "Date": "Sat, 01 Jan 2000 10:00:00 GMT",
            },
            30,
            30,
        ),
        ({"Retry-After": "Sat, 01 Jan 2000 10:00:30 GMT"}, 0, 0),
        ({"Retry-After": "1e9"}, 86_400, 86_400),
        ({"Retry-After": "-1"}, 0, 0),
    ],
)
async def test_retry_after_is_seconds_or_a_date(
    headers: dict[str, str], least: float, most: float
) -> None:
    wait = await wait_asked_for(headers)
    assert wait is not None
    assert least <= wait.total_seconds() <= most


@pytest.mark.parametrize("given", ["", "soon", "nan", "Sat, 99 Foo 2000", "-"])
async def test_retry_after_that_is_neither_says_nothing(given: str) -> None:
    assert await wait_asked_for({"Retry-After": given}) is None


async def wait_asked_for(headers: dict[str, str]) -> timedelta | None:
    async with Recorder(429, {}, headers).serving() as url, open_at(url) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(PROMPT, timeout=LONG)
    return caught.value.retry_after


@pytest.mark.parametrize(
    "body", [completion(None), completion(""), completion(None) | {"usage": None}]
)
async def test_answer_without_text(body: dict[str, Any]) -> None:
    server = Recorder(200, body)
    async with server.serving() as url, open_at(url) as provider:
        answered = await provider.complete(PROMPT, timeout=LONG)
    assert answered.text == ""
    is_told = body["usage"] is not None
    assert (answered.tokens_in is None, answered.tokens_out is None) == (not is_told, not is_told)


def other_server(**faults: Any) -> Any:
    settings = standin.GroqSettings(faults=standin.GroqFaults(**faults))
    return running(standin.create_app(settings), settings)


# What servers with the same protocol know of it, by their own words.
OTHERS = [
    {"dialect": "ollama", "formats": ("text", "json_object", "json_schema")},
    {"dialect": "llama.cpp", "formats": ("text", "json_object")},
    {"dialect": "vllm", "formats": ("text",)},
    {"dialect": "ollama", "formats": ("text",)},
]


@pytest.mark.parametrize("habits", OTHERS, ids=str)
async def test_a_server_is_asked_for_no_more_than_it_knows(habits: dict[str, Any]) -> None:
    async with other_server(**habits, answer=GOOD) as url, open_at(url) as provider:
        upstream = Upstream(
            provider,
            circuit=ModelCircuit(failures=9, pause=LONG),
            concurrency=9,
            timeout=LONG,
        )

        async def calls() -> int:
            usage = Usage()
            await upstream.complete(PROMPT, deadline=Deadline.after(LONG), usage=usage)
            return usage.calls

        at_once = await asyncio.gather(calls(), calls(), calls())
        assert max(at_once) == 4 - len(habits["formats"])
        # From then on it is known.
        assert await calls() == 1


@pytest.mark.parametrize("dialect", ["ollama", "vllm", "llama.cpp"])
@pytest.mark.parametrize(("status", "reason"), [(404, "provider-refused"), (503, None)])
async def test_errors_of_other_servers(dialect: str, status: int, reason: str | None) -> None:
    async with other_server(dialect=dialect, status=status) as url, open_at(url) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(PROMPT, timeout=LONG)
    assert caught.value.reason == (reason or "provider-unavailable")
    assert caught.value.passing is (status == 503)


@pytest.mark.parametrize("place", ["reasoning_content", "reasoning"])
async def test_an_answer_that_stands_where_thoughts_do_is_found(place: str) -> None:
    body = completion("")
    body["choices"][0]["message"][place] = f"Let me see. {GOOD}"
    async with Recorder(200, body).serving() as url, open_at(url) as provider:
        answered = await provider.complete(PROMPT, timeout=LONG)
    assert read_answer(answered.text).summary == "Hello"


async def test_thoughts_of_other_servers_are_passed_over_and_a_cut_is_seen() -> None:
    thinking = {"dialect": "vllm", "usage": False, "reasoning": "Is it Ada?"}
    async with other_server(**thinking) as url, open_at(url / "v1", most=16) as provider:
        answered = await provider.complete(PROMPT, timeout=LONG)
    assert "Is it Ada?" not in answered.text
    assert (answered.is_cut, answered.tokens_in, answered.tokens_out) == (True, None, None)


async def test_calls_whose_generation_fails_are_within_the_budget(redis: Redis) -> None:
    most = 5_000
    budget = MinuteBudget(redis, name="tests", account="", calls=0, tokens=most)
    async with other_server(status=400) as url, open_at(url) as provider:
        upstream = Upstream(
            provider,
            circuit=ModelCircuit(failures=99, pause=LONG),
            concurrency=50,
            timeout=LONG,
            budget=budget,
            most_tokens=500,
        )
        usage = Usage()
        within = timedelta(seconds=1)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(50):
                tasks.create_task(_attempt(upstream, usage, within))
    each = PROMPT.length // CHARACTERS_A_TOKEN + 500
    assert usage.calls == most // each


async def _attempt(upstream: Upstream, usage: Usage, within: timedelta) -> None:
    with contextlib.suppress(ProviderError):
        await upstream.complete(PROMPT, deadline=Deadline.after(within), usage=usage)


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
    assert [one["Authorization"] for one in server.headers] == ["Bearer gsk_tests"]


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


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.15])
async def test_one_try_has_its_time_however_the_answer_trickles_in(pause: float) -> None:
    gone = asyncio.Event()

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while not gone.is_set():
                await response.write(b" " * 10)
                await asyncio.sleep(pause)
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", trickle)
    async with running(app, ListenSettings()) as url, open_at(url) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.complete(PROMPT, timeout=timedelta(milliseconds=200))
        gone.set()
    assert caught.value.reason is FailureReason.TIMEOUT


@pytest.mark.parametrize("status", [200, 400, 429])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_what_comes_compressed_is_read(status: int, coding: str) -> None:
    detail = {"code": "json_validate_failed", "failed_generation": "{"}
    body = completion("anything") if status == 200 else {"error": detail}
    plain = json.dumps(body).encode()
    packed = gzip.compress(plain) if coding == "gzip" else zlib.compress(plain)

    async def answer_packed(request: web.Request) -> web.Response:
        assert coding in request.headers["Accept-Encoding"]
        headers = {"Content-Encoding": coding, "Retry-After": "2"}
        return web.Response(status=status, body=packed, headers=headers)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer_packed)
    async with running(app, ListenSettings()) as url, open_at(url) as provider:
        answered = await provider.complete(PROMPT, timeout=LONG)
    assert answered.text == ("anything" if status == 200 else "{")


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_no_other_address_gets_the_key(status: int) -> None:
    elsewhere = Recorder(200, completion("stolen"))
    async with elsewhere.serving() as target:
        server = Recorder(status, "", {"Location": str(target)})
        async with server.serving() as url, open_at(url) as provider:
            with pytest.raises(ProviderError) as caught:
                await provider.complete(PROMPT, timeout=LONG)
    assert caught.value.reason is FailureReason.PROVIDER_REFUSED
    assert (len(server.headers), elsewhere.headers) == (1, [])


@pytest.mark.parametrize(
    ("variables", "is_asked"),
    [
        ({"http_proxy": "http://{proxy}"}, True),
        ({"HTTP_PROXY": "{proxy}"}, True),
        ({"all_proxy": "http://ada:secret@{proxy}"}, True),
        ({"http_proxy": "http://{proxy}", "no_proxy": "127.0.0.1"}, False),
        ({"https_proxy": "http://{proxy}"}, False),
    ],
    ids=str,
)
async def test_proxy_of_the_environment(
    variables: dict[str, str], *, is_asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Recorder(200, completion("by proxy"))
    async with proxy.serving() as url:
        for name, value in variables.items():
            monkeypatch.setenv(name, value.format(proxy=f"{url.host}:{url.port}"))
        async with open_at(f"http://127.0.0.1:{free_port()}/v1") as provider:
            call = provider.complete(PROMPT, timeout=LONG)
            if is_asked:
                assert (await call).text == "by proxy"
                return
            with pytest.raises(ProviderError):
                await call
    assert proxy.paths == []
