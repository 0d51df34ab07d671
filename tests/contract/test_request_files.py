"""The Postman collections and the `.http` file: true to the document, and answered as they say."""

import json
import re
from asyncio import create_subprocess_exec, timeout
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from jsonschema import Draft202012Validator

from devstack.scratch import scratch_directory
from services.api.documents import openapi_json
from tests.contract.conftest import SETTINGS
from tests.support.repository import ROOT
from tests.support.request_files import (
    ORIGINAL,
    ORIGINAL_STATUSES,
    FiledRequest,
    Replay,
    http_requests,
    json_body,
    postman_requests,
)
from tests.support.stack import Stack, running_stack

COLLECTION = ROOT / "docs/leads.postman_collection.json"
WALK = ROOT / "docs/leads.http"
NEWMAN = ROOT / ".ci/node_modules/.bin/newman"

DOCUMENT: dict[str, Any] = json.loads(openapi_json())


def requests_of_the_collection() -> list[FiledRequest]:
    return list(postman_requests(json.loads(COLLECTION.read_text())))


def requests_of_the_walk() -> list[FiledRequest]:
    return list(http_requests(WALK.read_text()))


def operation_of(request: FiledRequest) -> dict[str, Any]:
    """Return the operation of the document that a request asks for."""
    asked = urlsplit(request.url.removeprefix("{{baseUrl}}")).path
    # Literal paths first: /leads/export is not a lead.
    for path in sorted(DOCUMENT["paths"], key=lambda path: "{" in path):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), asked):
            operation: dict[str, Any] = DOCUMENT["paths"][path][request.method.lower()]
            return operation
    raise AssertionError(f"{request.method} {request.url} is no operation of the document")


@pytest.mark.parametrize(
    "request_", [*requests_of_the_collection(), *requests_of_the_walk()], ids=lambda one: one.name
)
def test_a_request_is_one_of_the_document(request_: FiledRequest) -> None:
    operation = operation_of(request_)
    parameters = {one["name"] for one in operation.get("parameters", ())}
    query = urlsplit(request_.url).query
    assert {part.partition("=")[0] for part in query.split("&") if part} <= parameters
    if "requestBody" not in operation:
        assert request_.body is None
        return
    media_type = request_.headers["Content-Type"]
    schema = operation["requestBody"]["content"][media_type]["schema"]
    if media_type == "application/json":
        validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
        body = json_body(request_)
        assert [error.message for error in validator.iter_errors(body)] == []


def test_every_operation_is_in_the_collection() -> None:
    described = {
        operation["operationId"]
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        if not operation.get("deprecated")
    }

    assert {operation_of(one)["operationId"] for one in requests_of_the_collection()} == described


async def test_the_walk_leads_to_its_end(http: httpx.AsyncClient, stack: Stack) -> None:
    replay = Replay(http, baseUrl=stack.url, email="walk@example.com")
    answers = [await replay.send(request) for request in requests_of_the_walk()]

    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 201, 200, 200, 201, 200, 200, 200, 202, 202, 200, 200, 200, 204]


async def test_a_log_in_and_a_create_of_the_collection_serve_those_after_them(
    http: httpx.AsyncClient, stack: Stack
) -> None:
    named = {operation_of(one)["operationId"]: one for one in requests_of_the_collection()}
    replay = Replay(http, baseUrl=stack.url, email="collection@example.com")
    answers = [
        await replay.send(named[name])
        for name in ("signUp", "logIn", "createLead", "readLead", "summariseLead", "listLeads")
    ]

    assert [answer.status_code for answer in answers] == [201, 200, 201, 200, 200, 200]


@pytest.mark.skipif(not NEWMAN.exists(), reason="newman is not installed: .ci/run does that")
async def test_postmans_own_runner_agrees(tmp_path: Path) -> None:
    """The collection makes the same account and lead each time, hence a system of its own."""
    report = tmp_path / "report.json"
    with scratch_directory() as data:
        async with running_stack(data, **SETTINGS, PASSWORD_MIN_LENGTH="4") as stack, timeout(60):
            newman = await create_subprocess_exec(
                *(NEWMAN, "run", ORIGINAL, "--env-var", f"baseUrl={stack.url}"),
                *("--reporters", "json", "--reporter-json-export", report),
            )
            assert await newman.wait() == 0
    run = json.loads(report.read_text())["run"]

    assert run["failures"] == []
    assert [one["response"]["code"] for one in run["executions"]] == ORIGINAL_STATUSES
