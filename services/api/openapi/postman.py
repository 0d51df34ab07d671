"""The OpenAPI document as a Postman collection (format 2.1): a request for each operation.

A log-in keeps its token and a create the lead's id, for the requests that come after them.
"""

import json
from collections.abc import Iterator
from typing import Any, cast

from services.api.openapi.document import BEARER
from services.api.openapi.json_schemas import Json

FORMAT = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
BASE_URL = "{{baseUrl}}"

# Variables of the collection, to be changed by whoever uses it.
VARIABLES = {
    "baseUrl": "http://localhost:1234",
    "email": "ada@example.com",
    "password": "correct horse battery",
    "apiKey": "",
    "accessToken": "",
    "leadId": "",
    "operationId": "",
}
# Members of a request's body that are variables, whatever the example says. Those with a dollar
# sign are Postman's own: each create makes another lead.
CREDENTIALS = {"email": "{{email}}", "password": "{{password}}"}
FILLED_IN = {
    "signUp": CREDENTIALS,
    "logIn": CREDENTIALS,
    "createLead": {"externalId": "{{$guid}}", "email": "lead.{{$timestamp}}@example.com"},
}
# operation -> variable -> the member of its answer that is kept there.
KEPT = {
    "logIn": {"accessToken": "access_token"},
    "createLead": {"leadId": "id"},
}


def postman_collection(document: Json) -> Json:
    """Return the collection of a document's operations, in the folders that its tags name."""
    requests: dict[str, list[Json]] = {tag["name"]: [] for tag in document["tags"]}
    for method, path, operation in _operations(document):
        requests[operation["tags"][0]].append(_item(method, path, operation))
    return {
        "info": {
            "name": document["info"]["title"],
            "description": document["info"]["description"],
            "schema": FORMAT,
        },
        "auth": _auth("bearer", token="{{accessToken}}"),  # noqa: S106 (a variable's name)
        "variable": [{"key": key, "value": value} for key, value in VARIABLES.items()],
        "item": [{"name": name, "item": items} for name, items in requests.items()],
    }


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if not operation.get("deprecated"):
                yield method.upper(), path, operation


def _item(method: str, path: str, operation: Json) -> Json:
    request: Json = {
        "method": method,
        "header": [],
        "url": _url(path, operation.get("parameters", ())),
        "description": operation.get("description", operation["summary"]),
    }
    content: Json = operation.get("requestBody", {}).get("content", {})
    for media_type, body in list(content.items())[:1]:
        request["header"].append({"key": "Content-Type", "value": media_type})
        request["body"] = {"mode": "raw", "raw": _body(operation["operationId"], body["example"])}
    security: list[Json] = operation["security"]
    if not security:
        request["auth"] = {"type": "noauth"}
    elif BEARER not in security[0]:
        request["auth"] = _auth("apikey", key="X-API-Key", value="{{apiKey}}")
    item: Json = {"name": operation["summary"], "request": request}
    if operation["operationId"] in KEPT:
        item["event"] = [_script(KEPT[operation["operationId"]])]
    return item


def _url(path: str, parameters: list[Json]) -> Json:
    examples = {one["name"]: one.get("example") for one in parameters if one["in"] == "path"}
    parts = path.strip("/").split("/")
    filled = [_part(parts[0], part, examples) for part in parts]
    query = [
        {
            "key": one["name"],
            "value": str(one.get("example", one["schema"].get("default", ""))),
            "description": one["description"],
            "disabled": True,
        }
        for one in parameters
        if one["in"] == "query"
    ]
    return {
        "raw": "/".join([BASE_URL, *filled]),
        "host": [BASE_URL],
        "path": filled,
        **({"query": query} if query else {}),
    }


def _part(resource: str, part: str, examples: Json) -> str:
    """Return a part of a path; `{id}` becomes the variable of the resource, where it has one."""
    if not part.startswith("{"):
        return part
    name, variable = part.strip("{}"), f"{resource.removesuffix('s')}Id"
    is_kept = name == "id" and variable in VARIABLES
    return f"{{{{{variable}}}}}" if is_kept else str(examples[name])


def _body(operation_id: str, example: Any) -> str:
    if not isinstance(example, dict):
        return str(example)
    filled = {**cast("Json", example), **FILLED_IN.get(operation_id, {})}
    return json.dumps(filled, indent=2, ensure_ascii=False)


def _auth(kind: str, **values: str) -> Json:
    return {
        "type": kind,
        kind: [{"key": key, "value": value, "type": "string"} for key, value in values.items()],
    }


def _script(kept: dict[str, str]) -> Json:
    lines = [
        f'if (pm.response.code < 300) pm.collectionVariables.set("{name}", '
        f"pm.response.json().{member});"
        for name, member in kept.items()
    ]
    return {"listen": "test", "script": {"type": "text/javascript", "exec": lines}}
