"""Writes what the "model" says: the same plain sentences for the same lead every time."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast
from zlib import crc32

from devstack.standins.groq.requests import CompletionRequest

Schema = Mapping[str, Any]

_DEFAULT_SCHEMA: Schema = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "next_action": {"type": "string"}},
}
_NEXT_ACTIONS = {
    "contacted": ("Follow up with {name} on the last conversation this week.",),
    "qualified": ("Send {name} a proposal and agree on a date to discuss it.",),
    "unqualified": ("Close the lead, and note why {name} is not a fit.",),
    "converted": ("Hand {name} over to customer success and plan a check-in in a month.",),
}
_FIRST_ACTIONS = (
    "Call {name} to introduce the team and ask what they need.",
    "Write {name} a short introduction and propose two times for a call.",
    "Look up who covers {place} and have them contact {name}.",
)


def write(request: CompletionRequest) -> str:
    """Returns the content of the completion, in the response format that was asked for."""
    lead = find_lead(request.first_wish)
    response_format = request.response_format
    if response_format.type == "text":
        return f"{summary(lead)} {next_action(lead)}"
    schema = response_format.json_schema.schema_ if response_format.json_schema else _DEFAULT_SCHEMA
    return json.dumps(_Filler(schema, lead).fill(schema, "answer"), ensure_ascii=False)


def find_lead(prompt: str) -> dict[str, Any]:
    """The first JSON object in a prompt, its keys in snake case; empty when there is none."""
    decoder = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"\{", prompt)):
        try:
            found, _ = decoder.raw_decode(prompt, start)
        except ValueError:
            continue
        lead = cast("dict[str, Any]", found)
        if lead:
            return {re.sub(r"(?<=[a-z])([A-Z])", r"_\1", key).lower(): lead[key] for key in lead}
    return {}


def summary(lead: Mapping[str, Any]) -> str:
    source = lead.get("source")
    origin = f" and came in through {source}" if source else ""
    status = f" The lead is {lead['status']}." if lead.get("status") else ""
    return f"{_name(lead)} lives in {_place(lead)}{origin}.{status}"


def next_action(lead: Mapping[str, Any]) -> str:
    actions = _NEXT_ACTIONS.get(str(lead.get("status")), _FIRST_ACTIONS)
    chosen = crc32(json.dumps(lead, sort_keys=True, default=str).encode()) % len(actions)
    return actions[chosen].format(name=_name(lead), place=_place(lead))


def _name(lead: Mapping[str, Any]) -> str:
    names = (lead.get("first_name"), lead.get("last_name"))
    return " ".join(str(name) for name in names if name) or "This lead"


def _place(lead: Mapping[str, Any]) -> str:
    parts = (lead.get("city"), lead.get("state"), lead.get("country"))
    return ", ".join(str(part) for part in parts if part) or "a place not on record"


class _Filler:
    """Makes up a value for each part of a JSON schema."""

    def __init__(self, root: Schema, lead: Mapping[str, Any]) -> None:
        self._root = root
        self._lead = lead

    def fill(self, schema: Schema, name: str) -> object:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        types = schema.get("type", "string")
        kind: str = types if isinstance(types, str) else types[0]
        if kind == "object":
            return {key: self.fill(part, key) for key, part in schema.get("properties", {}).items()}
        if kind == "array":
            return [self.fill(schema.get("items", {}), name)]
        return self._plain(kind, schema, name)

    def _plain(self, kind: str, schema: Schema, name: str) -> object:
        match kind:
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._text(schema, name)

    def _resolved(self, schema: Schema) -> Schema:
        if reference := schema.get("$ref"):
            target: Any = self._root
            for step in str(reference).removeprefix("#/").split("/"):
                target = target[step]
            return self._resolved(target)
        for choice in schema.get("anyOf", ()):
            if choice.get("type") != "null":
                return self._resolved(choice)
        return schema

    def _text(self, schema: Schema, name: str) -> str:
        if "action" in name or "step" in name:
            text = next_action(self._lead)
        elif "summary" in name:
            text = summary(self._lead)
        else:
            text = str(self._lead.get(name, f"No {name.replace('_', ' ')} is on record."))
        return text[: schema.get("maxLength", len(text))]
