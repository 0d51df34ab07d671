"""What a caller of chat completions sends, and what Groq refuses in it."""

from collections.abc import Iterable
from typing import Any, Literal, cast

from pydantic import BaseModel, Field, ValidationError

from devstack.standins.groq.errors import GroqError, refuse_unknown_model
from devstack.standins.groq.settings import Dialect, GroqFaults

STRICT_MODELS = frozenset({"openai/gpt-oss-20b", "openai/gpt-oss-120b"})
SCHEMA_MODELS = STRICT_MODELS | {
    "openai/gpt-oss-safeguard-20b",
    "moonshotai/kimi-k2-instruct-0905",
    "meta-llama/llama-4-maverick-17b-128e-instruct",
    "meta-llama/llama-4-scout-17b-16e-instruct",
}
MODELS = SCHEMA_MODELS | {
    "llama-3.1-8b-instant",
    "llama-3.3-70b-versatile",
    "qwen/qwen3-32b",
    "groq/compound",
    "groq/compound-mini",
}
CHARACTERS_A_TOKEN = 4


class Message(BaseModel):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part.get("text", "")) for part in self.content or [])


class JsonSchema(BaseModel):
    """The schema the answer is to have."""

    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = False


class ResponseFormat(BaseModel):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class CompletionRequest(BaseModel):
    """The part of a request that the stand-in heeds."""

    model: str
    messages: list[Message] = Field(min_length=1)
    response_format: ResponseFormat = ResponseFormat()
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    stream: bool | None = False

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def prompt(self) -> str:
        return "\n".join(message.text for message in self.messages)

    @property
    def first_wish(self) -> str:
        """What the user said first: what follows may only say what was wrong with an answer."""
        return next((message.text for message in self.messages if message.role == "user"), "")

    @property
    def prompt_tokens(self) -> int:
        return count_tokens(self.prompt)


def count_tokens(text: str) -> int:
    """About as many as a tokenizer finds in English."""
    return -(-len(text) // CHARACTERS_A_TOKEN)


def read_request(body: object, faults: GroqFaults) -> CompletionRequest:
    """Raises `GroqError` for what Groq would refuse."""
    try:
        request = CompletionRequest.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise GroqError(f"'{place}' : {problem['msg']}") from error
    if request.stream:
        raise GroqError("'stream' : this stand-in answers whole completions only")
    if faults.dialect is not Dialect.GROQ:
        _check_format_elsewhere(request, faults)
        return request
    if request.model not in MODELS:
        refuse_unknown_model(request.model)
    _check_format(request)
    return request


def _check_format_elsewhere(request: CompletionRequest, faults: GroqFaults) -> None:
    asked = request.response_format.type
    if asked in faults.formats:
        return
    if faults.dialect is Dialect.LLAMA_CPP:
        kinds = " or ".join(f'"{one}"' for one in faults.formats)
        raise GroqError(f'response_format type must be one of {kinds}, but got: "{asked}"')
    raise GroqError(f"[{{'loc': ('body', 'response_format', 'type'), 'input': '{asked}'}}]")


def _check_format(request: CompletionRequest) -> None:
    response_format = request.response_format
    if response_format.type == "json_object" and "json" not in request.prompt.lower():
        raise GroqError(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'."
        )
    if response_format.type != "json_schema":
        return
    if response_format.json_schema is None:
        raise GroqError("'response_format.json_schema' : property is missing")
    if request.model not in SCHEMA_MODELS:
        raise GroqError(
            "This model does not support response format `json_schema`. See supported models at "
            "https://console.groq.com/docs/structured-outputs#supported-models",
            param="response_format",
        )
    if response_format.json_schema.strict:
        _check_strict(request.model, response_format.json_schema)


def _check_strict(model: str, wanted: JsonSchema) -> None:
    if model not in STRICT_MODELS:
        raise GroqError(
            f"Model `{model}` does not support `strict: true`. See supported models at "
            "https://console.groq.com/docs/structured-outputs#supported-models",
            param="response_format",
        )
    if complaint := _complaint(wanted.schema_, "/"):
        raise GroqError(
            f"invalid JSON schema for response_format: '{wanted.name}': {complaint}",
            param="response_format",
        )


def _complaint(schema: object, place: str) -> str | None:
    """What strict mode finds wrong with a schema, or with a part of it."""
    if isinstance(schema, list):
        return _first(_complaint(part, place) for part in cast("list[object]", schema))
    if not isinstance(schema, dict):
        return None
    rules = cast("dict[str, Any]", schema)
    if rules.get("type") == "object":
        if rules.get("additionalProperties") is not False:
            return f"{place}: `additionalProperties:false` must be set on every object"
        if set(rules.get("required", ())) != set(rules.get("properties", ())):
            return (
                f"{place}required: `required` is required to be supplied and to be an array "
                "including every key in properties"
            )
    return _first(_complaint(part, f"{place}{key}/") for key, part in rules.items())


def _first(complaints: Iterable[str | None]) -> str | None:
    return next(filter(None, complaints), None)
