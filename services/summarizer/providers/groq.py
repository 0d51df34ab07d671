"""Groq, or any server that speaks the same protocol, through Groq's own library."""

import contextlib
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from typing import Any, cast

import aiohttp
import groq
import httpx
from pydantic import BaseModel, Field, ValidationError

from services.summarizer.answers import answer_schema
from services.summarizer.prompts import Prompt
from services.summarizer.providers import Completion, ProviderError
from shared.domain.summary import FailureReason

# Where the API is at Groq's host; elsewhere it is often at `/v1`.
GROQ_PATH = "/openai/v1"
COMPLETIONS = "/chat/completions"

# Models that hold to a schema; the others are only asked for JSON.
# https://console.groq.com/docs/structured-outputs
STRICT_MODELS = ("openai/gpt-oss-20b", "openai/gpt-oss-120b")

TEMPERATURE = 0.3
CAPACITY_EXCEEDED = 498  # Groq's own
_PASSING = {408, 409, 425, CAPACITY_EXCEEDED}
_REQUEST_TIMEOUT = 408
_RATE_LIMITED = 429
_SERVER_ERROR = 500

_LIMITED = "The language model's rate limit is reached."
_UNAVAILABLE = "The language model is not available at the moment."
_REFUSED = "The language model's provider refuses the service's requests."
_LATE = "The language model did not answer in time."


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Reply(BaseModel):
    """What is read of a chat completion."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class GroqProvider:
    """One call for one prompt: retries, limits and waits are its caller's."""

    name = "groq"

    def __init__(self, client: groq.AsyncGroq, *, model: str, max_tokens: int) -> None:
        self.model = model
        self._client = client
        self._options = _options(model, max_tokens)

    async def complete(self, prompt: Prompt, *, timeout: timedelta) -> Completion:  # noqa: ASYNC109 (the SDK's own)
        """Ask once; raises `ProviderError`. An answer is text that has yet to be checked."""
        messages = [
            {"role": message.role, "content": message.content} for message in prompt.messages
        ]
        with _translated_errors():
            try:
                # Not `chat.completions.create`: that walks through the request and makes an
                # object of the answer, neither with a check, and takes longer than the rest.
                response = await self._client.post(
                    COMPLETIONS,
                    cast_to=httpx.Response,
                    body={"model": self.model, "messages": messages, **self._options},
                    options={"timeout": timeout.total_seconds()},
                )
            except groq.BadRequestError as error:
                if (failed := _failed_generation(error)) is None:
                    raise
                # Groq checked the answer for us: it goes where improper answers go.
                return Completion(text=failed)
            return _completion(response.content)


@contextlib.asynccontextmanager
async def open_groq(
    *, api_key: str, base_url: str, model: str, max_tokens: int, concurrency: int
) -> AsyncGenerator[GroqProvider]:
    """Open a client for `base_url`: a host, or a host and the path of its OpenAI-like API.

    It has a connection for each of `concurrency` calls.
    """
    url = httpx.URL(base_url)
    if url.path == "/":
        url = url.copy_with(path=GROQ_PATH)
    async with (
        groq.DefaultAioHttpClient(
            # The key goes where it was sent, and no further.
            follow_redirects=False,
            # By default a hundred: further calls would wait for one, and time out over that.
            limits=httpx.Limits(max_connections=concurrency),
        ) as http_client,
        groq.AsyncGroq(
            api_key=api_key, base_url=url, max_retries=0, http_client=http_client
        ) as client,
    ):
        yield GroqProvider(client, model=model, max_tokens=max_tokens)


def _options(model: str, max_tokens: int) -> dict[str, Any]:
    options: dict[str, Any] = {"temperature": TEMPERATURE, "max_completion_tokens": max_tokens}
    if model not in STRICT_MODELS:
        return options | {"response_format": {"type": "json_object"}}
    schema = {"name": "lead_summary", "strict": True, "schema": answer_schema()}
    return options | {
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def _completion(content: bytes) -> Completion:
    reply = _Reply.model_validate_json(content)
    usage = reply.usage or _Usage()
    return Completion(
        text=reply.choices[0].message.content or "",
        tokens_in=usage.prompt_tokens,
        tokens_out=usage.completion_tokens,
    )


@contextlib.contextmanager
def _translated_errors() -> Generator[None]:
    try:
        yield
    except groq.APIStatusError as error:
        raise _refusal(error) from error
    except groq.APITimeoutError as error:
        if _is_lost_connection(error):
            raise _unavailable(error) from error
        raise ProviderError(
            "no answer in time", reason=FailureReason.TIMEOUT, detail=_LATE, passing=True
        ) from error
    # A page instead of JSON, or JSON of another shape, comes from a server that is not well.
    except (groq.APIError, httpx.HTTPError, ValidationError) as error:
        raise _unavailable(error) from error


def _is_lost_connection(error: BaseException) -> bool:
    """Part lost connections from slow ones: httpx-aiohttp calls both a timeout."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return isinstance(causes[-1], (aiohttp.ClientConnectionError, OSError)) and not any(
        isinstance(cause, TimeoutError) for cause in causes
    )


def _unavailable(error: Exception) -> ProviderError:
    return ProviderError(
        # Only the kind of error: the message of a validation error quotes what was answered.
        type(error).__name__,
        reason=FailureReason.PROVIDER_UNAVAILABLE,
        detail=_UNAVAILABLE,
        passing=True,
    )


def _refusal(error: groq.APIStatusError) -> ProviderError:
    status = error.status_code
    reason, detail = _meaning(status)
    return ProviderError(
        f"status {status}, code {_field(error, 'code')}, "
        f"request {error.response.headers.get('x-request-id')}",
        reason=reason,
        detail=detail,
        passing=status in _PASSING or status == _RATE_LIMITED or status >= _SERVER_ERROR,
        retry_after=_retry_after(error.response),
    )


def _meaning(status: int) -> tuple[FailureReason, str]:
    if status == _RATE_LIMITED:
        return FailureReason.RATE_LIMITED, _LIMITED
    if status == _REQUEST_TIMEOUT:
        return FailureReason.TIMEOUT, _LATE
    if status in _PASSING or status >= _SERVER_ERROR:
        return FailureReason.PROVIDER_UNAVAILABLE, _UNAVAILABLE
    return FailureReason.PROVIDER_REFUSED, _REFUSED


def _retry_after(response: httpx.Response) -> timedelta | None:
    """Return Retry-After in its seconds form, the one that Groq sends."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return timedelta(seconds=min(max(seconds, 0), 86_400))


def _failed_generation(error: groq.BadRequestError) -> str | None:
    if _field(error, "code") != "json_validate_failed":
        return None
    return _field(error, "failed_generation") or ""


def _field(error: groq.APIStatusError, name: str) -> str | None:
    """Return a member of Groq's error object, as far as there is one."""
    body = cast("dict[str, Any]", error.body) if isinstance(error.body, dict) else {}
    details = body.get("error")
    value = cast("dict[str, Any]", details).get(name) if isinstance(details, dict) else None
    return value if isinstance(value, str) else None
