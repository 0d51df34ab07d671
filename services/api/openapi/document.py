"""The OpenAPI 3.1 document: made of the endpoints that handlers declare."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from services.api.openapi.json_schemas import Json, JsonSchemas
from services.api.openapi.problems import HEADERS, HEADERS_OF, problem_codes, problem_content
from services.api.web.endpoint import JSON, Access, Answer, Body, Endpoint, Header, Link, Tag
from services.api.web.problems import PROBLEMS

# Of the contract, not of the software: its first part grows when clients must change.
VERSION = "1.0.0"

INFO: Json = {
    "title": "Leads",
    "version": VERSION,
    "summary": "Leads, and what a language model makes of them",
    "description": (
        "Sign up, log in and send the access token with every request: "
        "`Authorization: Bearer <token>`.\n\n"
        "Every refusal and failure is `application/problem+json` with a stable `code`. Fields and "
        "query parameters that an operation does not know are refused by name, unless the API is "
        "set to ignore them; health and these documents always ignore such parameters, which "
        "probes and browsers add to get past caches. "
        "HEAD is answered wherever GET is, and OPTIONS everywhere."
    ),
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
TAGS = {
    Tag.AUTHENTICATION: "Accounts and sessions",
    Tag.LEADS: "People who may become customers",
    Tag.SUMMARIES: "What a language model writes about a lead",
    Tag.OPERATIONS: "Requests that were accepted and go on",
    Tag.ADMINISTRATION: "For operators, who have a key instead of an account",
    Tag.HEALTH: "For load balancers and supervisors",
    Tag.DOCUMENTS: "What you are reading",
}
BEARER, OPERATOR_KEY = "bearer", "operatorKey"
SECURITY: dict[Access, list[Json]] = {
    Access.PUBLIC: [],
    Access.USER: [{BEARER: []}],
    Access.OPERATOR: [{OPERATOR_KEY: []}],
}
SECURITY_SCHEMES: Json = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `access_token` of a log-in",
    },
    OPERATOR_KEY: {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The `API_KEY` that the API was started with",
    },
}

# With every answer, whatever its status.
REQUEST_ID = Header(
    name="X-Request-Id",
    description="The request's id, as sent or made up, which is on every line of the log",
    example="4f0a8f6d2f4f-1c",
)
ENCODING = Header(
    name="Content-Encoding",
    description="`gzip` where the body is long and the client accepts it",
    example="gzip",
    is_required=False,
)
# With every answer of an endpoint that is limited.
LIMIT_HEADERS = (
    Header(
        name="RateLimit-Policy",
        description="The limit that applies: so many calls (`q`) in so many seconds (`w`), unless "
        "limits are switched off",
        example='"user";q=3000;w=60',
        is_required=False,
    ),
    Header(
        name="RateLimit",
        description="Calls that are left (`r`), and the seconds until they are renewed (`t`)",
        example='"user";r=2999;t=60',
        is_required=False,
    ),
)


class Components:
    """Collects the parts that operations refer to, each under its name: schemas and problems."""

    def __init__(self) -> None:
        self.schemas = JsonSchemas()
        self.responses: Json = {}

    def headers(self, headers: Sequence[Header]) -> Json:
        """Return the headers of an answer by name, the request's id among them."""
        return {header.name: self._header(header) for header in (REQUEST_ID, *headers)}

    def problem(self, status: int, codes: Sequence[str]) -> Json:
        """Return a reference to the answer with one of these codes, all of them of one status."""
        name = ".".join(sorted(codes))
        if name not in self.responses:
            self.responses[name] = self._problem(status, sorted(codes))
        return {"$ref": f"#/components/responses/{name}"}

    def _problem(self, status: int, codes: Sequence[str]) -> Json:
        own = [HEADERS[status]] if status in HEADERS else []
        own += [header for code in codes for header in HEADERS_OF.get(code, ())]
        return {
            "description": " / ".join(PROBLEMS[code][1] for code in codes),
            "headers": self.headers((*LIMIT_HEADERS, *own)),
            "content": problem_content(status, codes, self.schemas),
        }

    def _header(self, header: Header) -> Json:
        return {
            "description": header.description,
            "required": header.is_required,
            "schema": self.schemas.of(header.type, mode="serialization"),
            "example": int(header.example) if header.type is int else header.example,
        }


def openapi_document(endpoints: Sequence[Endpoint]) -> Json:
    """Return the document as JSON values."""
    components = Components()
    paths: Json = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, components)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    used = {endpoint.tag for endpoint in endpoints}
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": text} for tag, text in TAGS.items() if tag in used],
        "paths": paths,
        "components": {
            "schemas": components.schemas.models,
            "responses": dict(sorted(components.responses.items())),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _operation(endpoint: Endpoint, components: Components) -> Json:
    operation: Json = {
        "operationId": endpoint.id,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "security": SECURITY[endpoint.access],
        "responses": _responses(endpoint, components),
    }
    if endpoint.explanation:
        operation["description"] = endpoint.explanation
    if endpoint.is_deprecated:
        operation["deprecated"] = True
    parameters = [*_parameters(endpoint, components), *_query(endpoint, components)]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = _request_body(endpoint.body, components)
    return operation


def _parameters(endpoint: Endpoint, components: Components) -> Iterator[Json]:
    for parameter in endpoint.parameters:
        is_required = parameter.is_required or parameter.place == "path"
        value: Json = {
            "name": parameter.name,
            "in": parameter.place,
            "description": parameter.description,
            "required": is_required,
            "schema": components.schemas.of(parameter.type, mode="validation"),
        }
        if parameter.example is not None and is_required:
            value["example"] = parameter.example
        elif parameter.example is not None:
            # Pages that send requests fill in every example: nobody asked for this one.
            value["description"] += f". Such as `{parameter.example}`"
        yield value


def _query(endpoint: Endpoint, components: Components) -> Iterator[Json]:
    if endpoint.query is None:
        return
    model = components.schemas.inline(endpoint.query, mode="validation")
    for name, schema in model["properties"].items():
        yield {
            "name": name,
            "in": "query",
            "description": schema.pop("description", ""),
            "required": name in model.get("required", ()),
            "schema": _without_null(schema),
        }


def _without_null(schema: Json) -> Json:
    """Return the schema of a parameter that is left out rather than null."""
    if schema.get("default", ...) is None:
        del schema["default"]
    choices: list[Json] = schema.pop("anyOf", [])
    given = [choice for choice in choices if choice.get("type") != "null"]
    return {**schema, **(given[0] if len(given) == 1 else {"anyOf": given} if given else {})}


def _request_body(body: Body, components: Components) -> Json:
    return {
        "required": body.is_required,
        "content": {
            media_type: {
                "schema": components.schemas.of(type_, mode="validation"),
                "example": body.examples[media_type],
            }
            for media_type, type_ in body.content.items()
        },
    }


def _responses(endpoint: Endpoint, components: Components) -> Json:
    responses: Json = {}
    limits = LIMIT_HEADERS if endpoint.is_limited else ()
    for answer in endpoint.answers:
        responses[str(answer.status)] = _answer(answer, (*answer.headers, *limits), components)
    for status, codes in _by_status(problem_codes(endpoint)):
        problem = components.problem(status, codes)
        known = responses.setdefault(str(status), problem)
        if known is not problem:
            # The same status for an answer of the operation's own: one entry holds both.
            name = problem["$ref"].rpartition("/")[2]
            known["content"] |= components.responses[name]["content"]
            known["headers"] |= components.responses[name]["headers"]
    return dict(sorted(responses.items()))


def _by_status(codes: set[str]) -> Iterator[tuple[int, list[str]]]:
    def status(code: str) -> int:
        return PROBLEMS[code][0]

    for value, group in groupby(sorted(codes, key=lambda code: (status(code), code)), key=status):
        yield value, list(group)


def _answer(answer: Answer, headers: Sequence[Header], components: Components) -> Json:
    encoding = (ENCODING,) if JSON in answer.content else ()
    value: Json = {
        "description": answer.description,
        "headers": components.headers((*headers, *encoding)),
    }
    if answer.content:
        value["content"] = {
            media_type: {"schema": components.schemas.of(type_, mode="serialization")}
            for media_type, type_ in answer.content.items()
        }
    if answer.on_request:
        value["x-on-request"] = list(answer.on_request)
    if answer.links:
        value["links"] = {name: _link(link) for name, link in answer.links.items()}
    return value


def _link(link: Link) -> dict[str, Any]:
    return {"operationId": link.operation_id, "parameters": dict(link.parameters)}
