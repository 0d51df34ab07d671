"""Groq, or any server that speaks the same protocol, through Groq's own library."""

import contextlib
import re
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

import groq
import httpx
import orjson
import structlog
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from services.summarizer.answers import answer_schema
from services.summarizer.prompts import Prompt
from services.summarizer.providers import Completion, ProviderError
from services.summarizer.providers.groq_http import open_http
from services.summarizer.settings import GROQ_HOST
from shared.domain.summary import FailureReason

log = structlog.get_logger(__name__)

# Where the API is at Groq's host; elsewhere it is often at `/v1`.
GROQ_PATH = "/openai/v1"
COMPLETIONS = "/chat/completions"

# Models that hold to a schema; the others are only asked for JSON.
# https://console.groq.com/docs/structured-outputs
STRICT_MODELS = ("openai/gpt-oss-20b", "openai/gpt-oss-120b")

# Of each call. What is not given is copied from a default, and that takes as long as the rest.
_GIVEN = {
    "params": {},
    # What differs from call to call, and no server reads.
    "headers": dict.fromkeys(("x-stainless-read-timeout", "x-stainless-retry-count"), groq.Omit()),
    "max_retries": 0,
    "idempotency_key": "",
    "follow_redirects": False,
    "post_parser": groq.not_given,
    "extra_json": None,
}

TEMPERATURE = 0.3
LONGEST_WAIT = timedelta(days=1)
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
    # Where some servers put all that a model writes while it thinks, which may be the answer too.
    reasoning_content: Any = None
    reasoning: Any = None

    @property
    def text(self) -> str:
        texts = (self.content, self.reasoning_content, self.reasoning)
        return next((text for text in texts if isinstance(text, str) and text.strip()), "")


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None


class _Usage(BaseModel):
    prompt_tokens: NonNegativeInt | None = None
    completion_tokens: NonNegativeInt | None = None


class _Reply(BaseModel):
    """What is read of a chat completion."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _Client(groq.AsyncGroq):
    """The library's client, which makes the headers of its first request and then sends the same.

    Each of ours would otherwise have them merged, checked and joined anew.
    """

    _headers: httpx.Headers | None = None

    @property
    def user_agent(self) -> str:
        """The library's own: it is made of the class's name."""
        return f"{groq.AsyncGroq.__name__}/Python {groq.__version__}"

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> httpx.Request:
        if self._headers is None:
            request = super()._build_request(options, retries_taken=retries_taken)
            self._headers = request.headers
            return request
        return self._client.build_request(
            "POST",
            options.url,
            headers=self._headers,
            content=options.content,
            timeout=options.timeout,
        )


class GroqProvider:
    """One call for one prompt: retries, limits and waits are its caller's."""

    name = "groq"

    def __init__(self, client: groq.AsyncGroq, *, model: str, max_tokens: int) -> None:
        self.model = model
        self._client = client
        # In full, and parsed: a path would be joined to the client's address, for each call anew.
        self._address = cast("str", completions_url(client.base_url))
        options = {
            "model": model,
            "temperature": TEMPERATURE,
            limit_name(client.base_url): max_tokens,
        }
        # What follows the messages in a request's body, by the format of the answer.
        self._endings = [orjson.dumps(options | one)[1:] for one in _formats(model)]
        self._format = 0

    async def complete(self, prompt: Prompt, *, timeout: timedelta) -> Completion:  # noqa: ASYNC109 (the SDK's own)
        """Ask once; raises `ProviderError`. An answer is text that has yet to be checked."""
        messages = [
            {"role": message.role, "content": message.content} for message in prompt.messages
        ]
        chosen = self._format
        with _translated_errors():
            try:
                # Not `chat.completions.create`: that walks through the request and makes an
                # object of the answer, neither with a check, and takes longer than the rest.
                response = await self._client.post(
                    self._address,
                    cast_to=httpx.Response,
                    content=b'{"messages":%b,%b' % (orjson.dumps(messages), self._endings[chosen]),
                    options=_options(timeout),
                )
            except groq.APIStatusError as error:
                if (failed := _failed_generation(error)) is not None:
                    # Groq checked the answer for us: it goes where improper answers go.
                    return Completion(text=failed)
                if self._can_ask_for_less(error, chosen):
                    raise _unknown_format(error) from error
                raise
            return _completion(response.content)

    def _can_ask_for_less(self, error: groq.APIStatusError, chosen: int) -> bool:
        """Ask by a looser format from now on, where the server does not know this one."""
        if chosen + 1 == len(self._endings) or not _is_about_format(error):
            return False
        # Of calls that were under way together, one does it for all.
        if self._format == chosen:
            self._format += 1
            log.warning("model.format_unknown", status=error.status_code, model=self.model)
        return True


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
        open_http(completions_url(url), connections=concurrency) as http_client,
        _Client(api_key=api_key, base_url=url, max_retries=0, http_client=http_client) as client,
    ):
        yield GroqProvider(client, model=model, max_tokens=max_tokens)


def _options(timeout: timedelta) -> groq.RequestOptions:
    return cast("groq.RequestOptions", {**_GIVEN, "timeout": timeout.total_seconds()})


def completions_url(base: httpx.URL) -> httpx.URL:
    """Return where completions are asked for at an API."""
    return base.copy_with(path=base.path.rstrip("/") + COMPLETIONS)


def limit_name(url: httpx.URL) -> str:
    """Return by which name a server knows the limit of what a model may write.

    Groq's own is newer; Ollama passes over what it does not know, and then there is no limit.
    """
    return "max_completion_tokens" if url.host == GROQ_HOST else "max_tokens"


def _formats(model: str) -> tuple[dict[str, Any], ...]:
    """Return what to ask for JSON by, the strictest first: not all servers know all of it."""
    as_json = {"response_format": {"type": "json_object"}}
    if model not in STRICT_MODELS:
        return (as_json, {})
    schema = {"name": "lead_summary", "strict": True, "schema": answer_schema()}
    by_schema = {"type": "json_schema", "json_schema": schema}
    return ({"reasoning_effort": "low", "response_format": by_schema}, as_json, {})


def _completion(content: bytes) -> Completion:
    reply = _Reply.model_validate_json(content)
    usage, choice = reply.usage or _Usage(), reply.choices[0]
    return Completion(
        text=choice.message.text,
        tokens_in=usage.prompt_tokens,
        tokens_out=usage.completion_tokens,
        is_cut=choice.finish_reason == "length",
    )


@contextlib.contextmanager
def _translated_errors() -> Generator[None]:
    try:
        yield
    except groq.APIStatusError as error:
        raise _refusal(error) from error
    except groq.APITimeoutError as error:
        raise ProviderError(
            "no answer in time", reason=FailureReason.TIMEOUT, detail=_LATE, passing=True
        ) from error
    # A page instead of JSON, or JSON of another shape, comes from a server that is not well.
    except (groq.APIError, httpx.HTTPError, ValidationError) as error:
        raise _unavailable(error) from error


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
    """Return Retry-After, which is in seconds as Groq sends it, or a date (RFC 9110)."""
    given = response.headers.get("retry-after", "")
    try:
        wait = timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        until = _date(given)
        if until is None:
            return None
        # By the clock of the server that said so, where it says what time it has.
        wait = until - (_date(response.headers.get("date", "")) or datetime.now(UTC))
    return min(max(wait, timedelta(0)), LONGEST_WAIT)


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


# What servers call it that they do not know, each in words of its own.
_ABOUT_FORMAT = re.compile(
    r"response_?format|json_(?:schema|object)|reasoning_effort|grammar|guided|structured.output",
    re.IGNORECASE,
)
_NOT_KNOWN = {400, 422, 500, 501}


def _is_about_format(error: groq.APIStatusError) -> bool:
    return error.status_code in _NOT_KNOWN and _ABOUT_FORMAT.search(error.response.text) is not None


def _unknown_format(error: groq.APIStatusError) -> ProviderError:
    return ProviderError(
        f"status {error.status_code}, the format of the answer is not known",
        reason=FailureReason.PROVIDER_REFUSED,
        detail=_REFUSED,
        passing=True,
    )


def _failed_generation(error: groq.APIStatusError) -> str | None:
    if _field(error, "code") != "json_validate_failed":
        return None
    return _field(error, "failed_generation") or ""


def _field(error: groq.APIStatusError, name: str) -> str | None:
    """Return a member of Groq's error object, as far as there is one."""
    body = cast("dict[str, Any]", error.body) if isinstance(error.body, dict) else {}
    details = body.get("error")
    value = cast("dict[str, Any]", details).get(name) if isinstance(details, dict) else None
    return value if isinstance(value, str) else None
