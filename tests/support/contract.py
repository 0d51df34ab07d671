"""The OpenAPI document as a judge: whether an answer is one that it describes."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from urllib.parse import quote, unquote

import httpx
from jsonschema_rs import Draft202012Validator

from services.api.documents import openapi_json

Json = dict[str, Any]

PROBLEM_JSON = "application/problem+json"

# What HTTP, caches and browsers need, whatever the operation.
OF_EVERY_ANSWER = frozenset(
    {
        *("server", "date", "connection", "content-length", "content-type", "transfer-encoding"),
        *("cache-control", "vary", "x-content-type-options", "referrer-policy"),
        *("content-security-policy", "strict-transport-security"),
        *("access-control-allow-origin", "access-control-expose-headers"),
    }
)


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer. `body` is None when it was not read, as of streams that do not end."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes | None

    def __str__(self) -> str:
        return f"{self.method} {self.path} -> {self.status}"

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]


class Contract:
    """Says what is wrong with answers. Members and headers that it does not know are wrong."""

    def __init__(self, document: Json) -> None:
        self._document = closed(document)
        self._validators: dict[str, Draft202012Validator] = {}
        # Literal paths first: /leads/export is not a lead.
        paths = sorted(document["paths"], key=lambda path: "{" in path)
        self._patterns = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in paths]

    def check(self, seen: Seen) -> None:
        """Raise `AssertionError` with all that is not as described."""
        wrong = list(self._wrong(seen))
        assert not wrong, f"{seen} is not as the OpenAPI document says: {'; '.join(wrong)}"

    def _wrong(self, seen: Seen) -> Iterator[str]:
        pointer = self._operation(seen)
        if pointer is None:
            yield from self._wrong_outside(seen)
            return
        response_pointer, response = self._resolve(f"{pointer}/responses/{seen.status}")
        if response is None:
            yield "the status is not there"
            return
        yield from self._wrong_headers(seen, response.get("headers", {}))
        if seen.media_type not in response.get("x-on-request", ()):
            yield from self._wrong_body(seen, response_pointer, response.get("content", {}))

    def _wrong_outside(self, seen: Seen) -> Iterator[str]:
        """Yield what is wrong with an answer where the document has no operation."""
        if seen.method == "OPTIONS" and seen.status == 204:
            return
        if seen.media_type != PROBLEM_JSON:
            yield f"a problem was expected, not {seen.media_type}"
            return
        yield from self._invalid(json.loads(seen.body or b""), "/components/schemas/ProblemDetails")
        if seen.status == 405 and "allow" not in seen.headers:
            yield "no Allow header"

    def _wrong_headers(self, seen: Seen, described: Json) -> Iterator[str]:
        names = {name.lower() for name in described}
        yield from (
            f"the header {name} is not there"
            for name in seen.headers
            if name.lower() not in names | OF_EVERY_ANSWER
        )
        for name, header in described.items():
            value = seen.headers.get(name.lower())
            if value is None and header["required"]:
                yield f"the header {name} is missing"
            elif value is not None and header["schema"].get("type") == "integer":
                yield from () if value.isdigit() else (f"{name}: {value} is no integer",)

    def _wrong_body(self, seen: Seen, response: str, content: Json) -> Iterator[str]:
        if not content:
            yield from ("there should be no body",) if seen.body else ()
        elif seen.media_type not in content:
            yield f"the media type {seen.media_type} is not there"
        elif seen.body and is_json(seen.media_type) and seen.method != "HEAD":
            media_type = seen.media_type.replace("/", "~1")
            pointer = f"{response}/content/{media_type}/schema"
            yield from self._invalid(json.loads(seen.body), pointer)

    def _invalid(self, value: Any, pointer: str) -> Iterator[str]:
        for error in self._validator(pointer).iter_errors(value):
            path = "".join(f"[{part!r}]" for part in error.instance_path)
            yield f"${path}: {error.message[:300]}"

    def _validator(self, pointer: str) -> Draft202012Validator:
        if pointer not in self._validators:
            # The document around the reference is no schema, and no hindrance either.
            schema = {**self._document, "$ref": f"#{quote(pointer)}"}
            self._validators[pointer] = Draft202012Validator(schema, validate_formats=True)
        return self._validators[pointer]

    def _operation(self, seen: Seen) -> str | None:
        method = "get" if seen.method == "HEAD" else seen.method.lower()
        for pattern, path in self._patterns:
            if pattern.fullmatch(seen.path.removesuffix("/")):
                if method not in self._document["paths"][path]:
                    return None
                return f"/paths/{path.replace('/', '~1')}/{method}"
        return None

    def _resolve(self, pointer: str) -> tuple[str, Json | None]:
        node: Any = self._document
        for part in pointer.removeprefix("/").split("/"):
            node = node.get(part.replace("~1", "/"))
            if node is None:
                return pointer, None
        if "$ref" in node:
            return self._resolve(node["$ref"].removeprefix("#"))
        return pointer, node


def closed(document: Json) -> Json:
    """Return the document with schemas that allow no member they do not name.

    To clients they are open, since members may come with time; no test may see one that the
    document does not have.
    """
    copy: Json = json.loads(json.dumps(document))
    extended = _extended(copy)
    for name, schema in copy["components"]["schemas"].items():
        if name not in extended and "properties" in schema:
            schema["unevaluatedProperties"] = False
    for response in copy["components"]["responses"].values():
        for content in response["content"].values():
            content["schema"]["unevaluatedProperties"] = False
    return copy


def _extended(node: Any) -> set[str]:
    """Return the names of schemas that others add members to."""
    match node:
        case {"allOf": [{"$ref": str(reference)}, *_]}:
            return {reference.rpartition("/")[2]}
        case dict():
            return _extended(list(cast("Json", node).values()))
        case list():
            return set[str]().union(*map(_extended, cast("list[object]", node)))
        case _:
            return set()


def is_json(media_type: str) -> bool:
    """Whether a body is one JSON value, which NDJSON is not."""
    return media_type == "application/json" or media_type.endswith("+json")


@cache
def contract() -> Contract:
    """Return the contract of this version of the API."""
    return Contract(json.loads(openapi_json()))


async def check_response(response: httpx.Response) -> None:
    """Check what a client of the API was answered: one of the hooks of its HTTP client."""
    is_read = is_json(response.headers.get("content-type", "").partition(";")[0])
    if is_read:
        await response.aread()
    request = response.request
    contract().check(
        Seen(
            method=request.method,
            path=unquote(request.url.raw_path.decode("ascii").partition("?")[0]),
            status=response.status_code,
            headers=response.headers,
            body=response.content if is_read else None,
        )
    )
