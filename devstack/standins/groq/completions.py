"""Answers chat completions and the list of models."""

import secrets
import time
from datetime import timedelta
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from devstack.standins.groq.errors import GroqError, error_for_status, invalid_api_key
from devstack.standins.groq.rate_limits import RateLimits
from devstack.standins.groq.requests import (
    CHARACTERS_A_TOKEN,
    MODELS,
    CompletionRequest,
    count_tokens,
    read_request,
)
from devstack.standins.groq.settings import Dialect, GroqFaults
from devstack.standins.groq.writer import write
from devstack.standins.serving import Control

LAUNCHED = 1_708_045_122
TOKENS_A_SECOND = 500


class Completions:
    """The handlers of `/openai/v1`."""

    def __init__(self, control: Control[GroqFaults], limits: RateLimits) -> None:
        self._control = control
        self._limits = limits

    async def create(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except ValueError as error:
            raise GroqError("Invalid JSON in the request body") from error
        self._control.last_request = body
        wanted = read_request(body, self._control.faults)
        self._limits.admit(
            wanted.model,
            tokens=wanted.prompt_tokens + (wanted.token_limit or 0),
            faults=self._control.faults,
        )
        self._control.counters["completions"] += 1
        return web.json_response(self._complete(wanted))

    async def list_models(self, _request: web.Request) -> web.Response:
        models = [
            {"id": name, "object": "model", "created": LAUNCHED, "owned_by": "Groq", "active": True}
            for name in sorted(MODELS)
        ]
        return web.json_response({"object": "list", "data": models})

    def refuse(self, status: int) -> web.Response:
        faults = self._control.faults
        response = error_for_status(status, retry_after=faults.retry_after).response(faults)
        response.headers.update(self._headers())
        return response

    @web.middleware
    async def answer_as_groq(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Checks the key, words errors as Groq does and adds its headers."""
        if not request.path.startswith(("/openai/", "/v1/")):
            return await handler(request)
        try:
            _require_key(request)
            response = await handler(request)
        except GroqError as error:
            response = error.response(self._control.faults)
        except web.HTTPException as error:
            refused = _refused_by_server(request, status=error.status)
            response = refused.response(self._control.faults)
        response.headers.update(self._headers())
        return response

    def _complete(self, wanted: CompletionRequest) -> dict[str, Any]:
        content, finish_reason = self._content(wanted)
        faults = self._control.faults
        thought = {} if faults.reasoning is None else {"reasoning_content": faults.reasoning}
        return {
            "id": f"chatcmpl-{secrets.token_hex(16)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": wanted.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, **thought},
                    "logprobs": None,
                    "finish_reason": finish_reason,
                }
            ],
            "usage": self._usage(wanted, content) if faults.usage else None,
            "usage_breakdown": None,
            "system_fingerprint": "fp_standin",
            "x_groq": {"id": _request_id()},
            "service_tier": "on_demand",
        }

    def _content(self, wanted: CompletionRequest) -> tuple[str, str]:
        if (answer := self._take_answer()) is not None:
            return answer, "stop"
        content, limit = write(wanted), wanted.token_limit
        if limit is None or count_tokens(content) <= limit:
            return content, "stop"
        cut = content[: limit * CHARACTERS_A_TOKEN]
        is_checked = self._control.faults.dialect is Dialect.GROQ
        if wanted.response_format.type == "text" or not is_checked:
            return cut, "length"
        raise GroqError(
            "Failed to validate JSON. Please adjust your prompt. "
            "See 'failed_generation' for more details.",
            code="json_validate_failed",
            failed_generation=cut,
        )

    def _take_answer(self) -> str | None:
        faults = self._control.faults
        if not faults.answers:
            return faults.answer
        first, *rest = faults.answers
        self._control.change({"answers": rest})
        return first

    def _usage(self, wanted: CompletionRequest, content: str) -> dict[str, Any]:
        prompt, completion = wanted.prompt_tokens, count_tokens(content)
        times = {
            "queue_time": 0.001,
            "prompt_time": prompt / TOKENS_A_SECOND / 10,
            "completion_time": completion / TOKENS_A_SECOND,
        }
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            **times,
            "total_time": times["prompt_time"] + times["completion_time"],
        }

    def _headers(self) -> dict[str, str]:
        return {
            **self._limits.headers(self._control.faults),
            "x-request-id": _request_id(),
            "x-groq-region": "local",
        }


def _require_key(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise invalid_api_key()


def _refused_by_server(request: web.Request, *, status: int) -> GroqError:
    if status not in {404, 405}:
        return error_for_status(status, retry_after=timedelta(0))
    return GroqError(
        f"Unknown request URL: {request.method} {request.path}. Please check the URL for typos, "
        "or see the docs at https://console.groq.com/docs/",
        status=status,
        code="unknown_url",
    )


def _request_id() -> str:
    return f"req_{secrets.token_hex(13)}"
