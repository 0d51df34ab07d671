"""The AsyncAPI document: valid, true to the catalog and the codec, and the one in `docs/`."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft7Validator, FormatChecker

from services.api.documents import asyncapi_json
from services.api.openapi.asyncapi import HEADERS
from shared.events.catalog import FLOWS, STREAMS
from shared.events.envelope import now
from shared.streams.codec import encode
from tests.support.builders import lead_created
from tests.support.repository import ROOT

Json = dict[str, Any]

SCHEMA: Json = json.loads((ROOT / "tests/support/schemas/asyncapi-3.0.0.json").read_text())


@pytest.fixture(scope="module")
def document() -> Json:
    loaded: Json = json.loads(asyncapi_json())
    return loaded


def test_it_is_valid(document: Json) -> None:
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(document)] == []


def test_the_schema_refuses_what_is_wrong(document: Json) -> None:
    wrong = {**document, "operations": {"api-sends": {"action": "publish"}}}

    assert not Draft7Validator(SCHEMA).is_valid(wrong)


def test_it_has_the_streams_and_events_of_the_catalog(document: Json) -> None:
    channels = {
        channel["address"]: set(channel["messages"])
        for name, channel in document["channels"].items()
        if name != "replies"
    }

    assert channels == {
        stream: {flow.event.type for flow in FLOWS if flow.stream == stream} for stream in STREAMS
    }


def test_services_send_and_receive_what_the_catalog_says(document: Json) -> None:
    operations = {
        (name.partition("-")[0], operation["action"], operation["messages"][0]["$ref"])
        for name, operation in document["operations"].items()
    }
    expected: set[tuple[str, str, str]] = set()
    for flow in FLOWS:
        channel = flow.stream.partition(":")[2]
        message = f"#/channels/{channel}/messages/{flow.event.type}"
        expected |= {(producer, "send", message) for producer in flow.producers}
        expected |= {(group, "receive", message) for group in flow.groups}

    assert operations == expected


def test_every_reference_leads_somewhere(document: Json) -> None:
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', asyncapi_json().decode()))

    assert len(references) > 10
    for reference in references:
        place: Any = document
        for part in reference.split("/"):
            place = place[part]


def test_an_encoded_event_is_as_described(document: Json) -> None:
    event = replace(
        lead_created(),
        correlation_id="4f0a8f6d2f4f-1c",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracelink="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="vendor=1",
        reply_to="reply:api:1",
        expires=now(),
        only_group="syncer",
        replay_id="1",
        with_model=True,
    )
    fields = {str(name): str(value) for name, value in encode(event).items()}
    payload = json.loads(fields.pop("data"))
    message = document["components"]["messages"]["lead-created"]

    assert fields.keys() == HEADERS.keys()
    for part, value in (("headers", fields), ("payload", payload)):
        schema = {**message[part], "components": document["components"]}
        errors = Draft7Validator(schema, format_checker=FormatChecker()).iter_errors(value)
        assert [error.message for error in errors] == []


def test_the_published_document_is_current() -> None:
    assert (ROOT / "docs/asyncapi.json").read_bytes() == asyncapi_json(), "run `make docs`"
