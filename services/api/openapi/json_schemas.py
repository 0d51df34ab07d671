"""JSON schemas of models, each kept once under `#/components/schemas`."""

import json
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

Json = dict[str, Any]

REF_TEMPLATE = "#/components/schemas/{model}"


class JsonSchemas:
    """Collects the models that schemas refer to, by name."""

    def __init__(self) -> None:
        self._models: Json = {}
        self._references: dict[tuple[type[BaseModel], JsonSchemaMode], Json] = {}

    @property
    def models(self) -> Json:
        """The models' schemas in the order of their names."""
        return dict(sorted(self._models.items()))

    def of(self, type_: Any, *, mode: JsonSchemaMode) -> Json:
        """Return the schema of a type that pydantic understands; a model is referred to."""
        if not isinstance(type_, type) or not issubclass(type_, BaseModel):
            return self.inline(type_, mode=mode)
        if (type_, mode) not in self._references:
            schema = _without_defaults(self.inline(type_, mode=mode))
            self._references[type_, mode] = self.keep(type_.__name__, schema)
        return self._references[type_, mode]

    def keep(self, name: str, schema: Json) -> Json:
        """Keep a schema under a name, and return the reference to it."""
        if self._models.setdefault(name, schema) != schema:
            raise ValueError(f"Two different models are named {name}")
        return {"$ref": REF_TEMPLATE.format(model=name)}

    def inline(self, type_: Any, *, mode: JsonSchemaMode) -> Json:
        """Return the schema itself; the models that it holds are referred to all the same."""
        schema = TypeAdapter(type_).json_schema(
            mode=mode, ref_template=REF_TEMPLATE, schema_generator=_Generator
        )
        definitions = cast("Json", schema.pop("$defs", {}))
        for name, definition in definitions.items():
            self.keep(name, _without_defaults(definition))
        return schema


def _without_defaults(schema: Json) -> Json:
    """Say in words what a member is that is left out.

    A generator of clients may take a member with a default for one that is always there.
    """
    for member in schema.get("properties", {}).values():
        default = member.pop("default", None)
        if default not in (None, [], {}):
            text = f"Left out: `{json.dumps(default)}`"
            member["description"] = "; ".join(filter(None, (member.get("description"), text)))
    return schema


class _Generator(GenerateJsonSchema):
    """Leaves out titles, which only repeat a field's name, and says how wide integers may be.

    Some languages take 32 bits where nothing is said.
    """

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return super().int_schema(schema) | {"format": "int64"}

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False
