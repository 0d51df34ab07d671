"""The OpenAPI document: valid, complete, true to the routes, and the one that is in `docs/`."""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.api.documents import openapi_json
from services.api.handlers import ENDPOINTS
from services.api.handlers.leads import Lead
from services.api.openapi.document import TAGS
from services.api.openapi.json_schemas import JsonSchemas
from services.api.openapi.problems import problem_codes
from services.api.web.problems import PROBLEMS
from tests.support.repository import ROOT

Json = dict[str, Any]

# Answers to what is no operation of the document.
OF_NO_OPERATION = {"method-not-allowed"}


@pytest.fixture(scope="module")
def document() -> Json:
    loaded: Json = json.loads(openapi_json())
    return loaded


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


def objects(value: object) -> Iterator[Json]:
    """Yield every JSON object within a value, and the value itself if it is one."""
    match value:
        case dict():
            node = cast("Json", value)
            yield node
            yield from objects(list(node.values()))
        case list():
            for child in cast("list[object]", value):
                yield from objects(child)
        case _:
            pass


def examples(document: Json) -> Iterator[tuple[Json, Any]]:
    """Yield the schema of every example, and the example."""
    for node in objects(document):
        if isinstance(node.get("schema"), dict):
            if "example" in node:
                yield node["schema"], node["example"]
            for example in node.get("examples", {}).values():
                yield node["schema"], example["value"]
        elif isinstance(node.get("examples"), list):
            for example in node["examples"]:
                yield node, example


def test_it_is_valid(document: Json) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_validator_refuses_what_is_wrong(document: Json) -> None:
    wrong: Json = {**document, "paths": {"/leads": {"get": {"responses": {"ok": {}}}}}}

    assert list(OpenAPIV31SpecValidator(wrong).iter_errors()) != []


def test_every_endpoint_is_in_it_once(document: Json) -> None:
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }

    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    assert len(described) == len(ENDPOINTS)


def test_operations_are_named_once(document: Json) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]

    assert len(names) == len(set(names))


def test_variable_parts_of_paths_are_explained(document: Json) -> None:
    for path, operation in operations(document):
        explained = {
            parameter["name"]
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "path"
        }
        assert {f"{{{name}}}" for name in explained} == {
            part for part in path.split("/") if part.startswith("{")
        }, path


def test_every_problem_belongs_to_an_operation() -> None:
    possible = set[str]().union(*map(problem_codes, ENDPOINTS))

    assert PROBLEMS.keys() - possible == OF_NO_OPERATION
    assert possible <= PROBLEMS.keys()


def test_links_lead_to_operations(document: Json) -> None:
    parameters = {
        operation["operationId"]: {one["name"] for one in operation.get("parameters", ())}
        for _, operation in operations(document)
    }
    links = [
        link
        for _, operation in operations(document)
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]

    assert len(links) > 5
    for link in links:
        assert link["parameters"].keys() <= parameters[link["operationId"]]


def test_examples_are_valid(document: Json) -> None:
    found = list(examples(document))

    assert len(found) > 30
    for schema, example in found:
        validator = Draft202012Validator(
            {**schema, "components": document["components"]}, format_checker=FormatChecker()
        )
        assert [error.message for error in validator.iter_errors(example)] == [], example


def test_nothing_optional_is_filled_in(document: Json) -> None:
    """A page that sends requests fills in every example, such as an `If-Match` nobody meant."""
    parameters = [
        parameter
        for _, operation in operations(document)
        for parameter in operation.get("parameters", ())
        if not parameter["required"]
    ]

    assert {"Prefer", "If-Match", "If-None-Match", "Last-Event-ID"} <= {
        parameter["name"] for parameter in parameters
    }
    for parameter in parameters:
        assert not {"example", "examples"} & (parameter.keys() | parameter["schema"].keys())


class TestGenerators:
    """What generators of clients stumble over, each seen with one of them."""

    def test_integers_say_how_wide_they_are(self, document: Json) -> None:
        """Go: constants of 64 bits do not fit into the type of 32 that is made of nothing."""
        integers = [node for node in objects(document) if node.get("type") == "integer"]
        assert len(integers) > 20
        assert {node.get("format") for node in integers} == {"int64"}

    def test_members_have_no_defaults(self, document: Json) -> None:
        """TypeScript: a member with a default is taken for one that has to be given."""
        members = [
            member
            for node in objects(document)
            if isinstance(node.get("properties"), dict)
            for member in node["properties"].values()
        ]
        assert len(members) > 100
        assert not [member for member in members if "default" in member]
        batch = document["components"]["schemas"]["LeadBatch"]
        assert '"create"' in batch["properties"]["mode"]["description"]
        assert batch["required"] == ["leads"]

    def test_no_schema_is_anything_beside_another(self, document: Json) -> None:
        """Python, by openapi-generator: `anyOf` with `{}` ends the generator."""
        for node in objects(document):
            for word in ("anyOf", "oneOf", "allOf"):
                assert {} not in node.get(word, ()), node

    def test_problems_have_names(self, document: Json) -> None:
        """Java, C#: what has none is InlineObject34, and 35 after the next change."""
        for response in document["components"]["responses"].values():
            for content in response["content"].values():
                assert content["schema"].keys() == {"$ref"}
        problems = {
            name: schema
            for name, schema in document["components"]["schemas"].items()
            if name.endswith("Problem")
        }
        assert problems["DuplicateLeadProblem"]["title"] == "DuplicateLeadProblem"
        assert {"code", "detail", "field", "leadId"} <= problems["DuplicateLeadProblem"][
            "properties"
        ].keys()

    def test_enumerations_have_types(self, document: Json) -> None:
        """Rust and Go: an enumeration without a type becomes a type that holds anything."""
        for node in objects(document):
            if isinstance(node.get("enum"), list) or "const" in node:
                assert isinstance(node.get("type"), str), node

    def test_json_is_of_one_type(self, document: Json) -> None:
        """What is JSON or a stream by the client's wish would be `Lead | string`."""
        for path, operation in operations(document):
            for status, response in operation["responses"].items():
                media_types = response.get("content", {}).keys() - {"application/problem+json"}
                if "application/json" in media_types:
                    assert media_types == {"application/json"}, (path, status)


def test_every_tag_is_explained(document: Json) -> None:
    used = {tag for _, operation in operations(document) for tag in operation["tags"]}

    assert [tag["name"] for tag in document["tags"]] == [tag for tag in TAGS if tag in used]


def test_models_of_one_name_are_not_mixed_up() -> None:
    other = type("Lead", (Lead,), {"__doc__": "Another."})
    schemas = JsonSchemas()
    schemas.of(Lead, mode="serialization")

    with pytest.raises(ValueError, match="named Lead"):
        schemas.of(other, mode="serialization")


def test_the_published_document_is_current() -> None:
    assert (ROOT / "docs/openapi.json").read_bytes() == openapi_json(), "run `make docs`"
