"""Postman collections and `.http` files: their requests, and a client that sends them in order."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httpx

Json = dict[str, Any]

_variable = re.compile(r"\{\{([\w.$]+)\}\}")
_kept = re.compile(r'pm\.collectionVariables\.set\("(\w+)", pm\.response\.json\(\)\.(\w+)\)')

# A request line, headers, and a body behind an empty line.
_http_request = re.compile(
    r"^([A-Z]+) (\S+)\n((?:[\w-]+: [^\n]*\n)*)(?:\n(.+))?", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class FiledRequest:
    """A request of a file, with variables in it.

    `given` are variables that are set before it is sent, `kept` those that its answer sets: each
    to a member of the JSON object.
    """

    name: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: str | None = None
    given: Mapping[str, str] = field(default_factory=dict[str, str])
    kept: Mapping[str, str] = field(default_factory=dict[str, str])


def postman_requests(collection: Json) -> Iterator[FiledRequest]:
    """Yield the requests of a Postman collection in their order."""
    given = {one["key"]: one["value"] for one in collection.get("variable", ())}
    for item in _postman_items(collection["item"]):
        request = item["request"]
        headers = {one["key"]: one["value"] for one in request["header"]}
        headers |= _auth_headers(request.get("auth", collection["auth"]))
        script = "\n".join(line for event in item.get("event", ()) for line in _lines(event))
        yield FiledRequest(
            name=item["name"],
            method=request["method"],
            url=request["url"]["raw"],
            headers=headers,
            body=request.get("body", {}).get("raw"),
            given=given,
            kept=dict(_kept.findall(script)),
        )


def http_requests(text: str) -> Iterator[FiledRequest]:
    """Yield the requests of an `.http` file in their order."""
    given: dict[str, str] = {}
    for block in re.split(r"^###", text, flags=re.MULTILINE):
        given |= dict(re.findall(r"^@(\w+) = (.*)$", block, re.MULTILINE))
        match = _http_request.search(block)
        if match is None:
            continue
        name = re.search(r"^# @name (\w+)$", block, re.MULTILINE)
        yield FiledRequest(
            name=block.splitlines()[0].strip() if name is None else name[1],
            method=match[1],
            url=match[2],
            headers=dict(re.findall(r"^([\w-]+): (.*)$", match[3], re.MULTILINE)),
            body=match[4] and match[4].strip(),
            given=dict(given),
        )


class Replay:
    """Sends requests in order, with what earlier answers set."""

    def __init__(self, client: httpx.AsyncClient, **variables: str) -> None:
        self._client = client
        self._fixed = variables
        self._set: dict[str, str] = {}

    async def send(self, request: FiledRequest) -> httpx.Response:
        """Send one, and keep what is wanted of the answer."""
        variables = {**request.given, **self._set, **self._fixed}
        response = await self._client.request(
            request.method,
            filled(request.url, variables),
            headers={name: filled(value, variables) for name, value in request.headers.items()},
            content=None if request.body is None else filled(request.body, variables),
        )
        if response.is_success and response.content:
            self._keep(request, response.json())
        return response

    def _keep(self, request: FiledRequest, answer: Any) -> None:
        for variable, member in request.kept.items():
            self._set[variable] = answer[member]
        # In an .http file a later variable may be a member of a named request's answer.
        if isinstance(answer, dict):
            for member, value in cast("Json", answer).items():
                self._set[f"{request.name}.response.body.$.{member}"] = str(value)


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Return the text with its variables' values, which may hold variables themselves."""
    while (match := _variable.search(text)) is not None:
        text = text[: match.start()] + variables[match[1]] + text[match.end() :]
    return text


def _postman_items(items: list[Json]) -> Iterator[Json]:
    for item in items:
        if "item" in item:
            yield from _postman_items(item["item"])
        else:
            yield item


def _auth_headers(auth: Json) -> dict[str, str]:
    values = {one["key"]: one["value"] for one in auth.get(auth["type"], ())}
    match auth["type"]:
        case "bearer":
            return {"Authorization": f"Bearer {values['token']}"}
        case _:
            return {}


def _lines(event: Json) -> list[str]:
    lines: list[str] = event["script"]["exec"] if event["listen"] == "test" else []
    return lines


def json_body(request: FiledRequest) -> Any:
    """Return the JSON value that a request carries; None when it has no body.

    Variables that another request's answer sets become some text.
    """
    if request.body is None:
        return None
    known = defaultdict(lambda: "of an answer", request.given)
    return json.loads(filled(request.body, known))
