"""Dataclasses as JSON bodies: camelCase names, time spans in seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import timedelta
from typing import Any, cast

import orjson
from pydantic.alias_generators import to_camel


def json_body(value: Any) -> bytes:
    """Return a value as JSON: dataclasses, and what they and plain containers hold."""
    return orjson.dumps(json_value(value))


def json_value(value: Any) -> Any:
    """Return a value in terms that JSON has. Keys of mappings are data, and stay as they are."""
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    if is_dataclass(value):
        return {to_camel(one.name): json_value(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): json_value(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in cast("Sequence[object]", value)]
    return value
