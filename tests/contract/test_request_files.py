"""The requests in `docs/leads.http` are as the OpenAPI document describes them.

`tests/e2e/test_request_file.py` sends them.
"""

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator

from services.api.documents import openapi_json
from tests.support.repository import ROOT
from tests.support.request_files import FiledRequest, http_requests, json_body

REQUESTS = list(http_requests((ROOT / "docs/leads.http").read_text()))
DOCUMENT: dict[str, Any] = json.loads(openapi_json())


def operation_of(request: FiledRequest) -> dict[str, Any]:
    """Return the operation of the document that a request asks for."""
    asked = urlsplit(request.url.removeprefix("{{baseUrl}}")).path
    # Literal paths first: /leads/export is not a lead.
    for path in sorted(DOCUMENT["paths"], key=lambda path: "{" in path):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), asked):
            operation: dict[str, Any] = DOCUMENT["paths"][path][request.method.lower()]
            return operation
    raise AssertionError(f"{request.method} {request.url} is no operation of the document")


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: one.name)
def test_a_request_is_one_of_the_document(request_: FiledRequest) -> None:
    operation = operation_of(request_)
    parameters = {one["name"] for one in operation.get("parameters", ())}
    query = urlsplit(request_.url).query
    assert {part.partition("=")[0] for part in query.split("&") if part} <= parameters
    if request_.body is None:
        assert not operation.get("requestBody", {}).get("required")
        return
    media_type = request_.headers["Content-Type"]
    schema = operation["requestBody"]["content"][media_type]["schema"]
    if media_type == "application/json":
        validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
        body = json_body(request_)
        assert [error.message for error in validator.iter_errors(body)] == []
