"""JSON schemas of models, each kept once under `#/components/schemas`."""

from typing import Any, cast

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

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
            self._keep(type_.__name__, self.inline(type_, mode=mode))
            reference = REF_TEMPLATE.format(model=type_.__name__)
            self._references[type_, mode] = {"$ref": reference}
        return self._references[type_, mode]

    def inline(self, type_: Any, *, mode: JsonSchemaMode) -> Json:
        """Return the schema itself; the models that it holds are referred to all the same."""
        schema = TypeAdapter(type_).json_schema(
            mode=mode, ref_template=REF_TEMPLATE, schema_generator=_Generator
        )
        definitions = cast("Json", schema.pop("$defs", {}))
        for name, definition in definitions.items():
            self._keep(name, definition)
        return schema

    def _keep(self, name: str, schema: Json) -> None:
        if self._models.setdefault(name, schema) != schema:
            raise ValueError(f"Two different models are named {name}")


class _Generator(GenerateJsonSchema):
    """Leaves out titles, which only repeat a field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False
