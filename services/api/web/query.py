"""What an address says: its parameters, of which only the route's own may be there, and its id."""

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, TypeVar

from multidict import MultiMapping
from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from services.api.web.body import Unknown, parse
from services.api.web.problems import Problem, validation_problem

Model = TypeVar("Model", bound="Query")

# Without a group that repeats and without letters of either case it takes a third of the time.
_is_uuid = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_is_timestamp = re.compile(
    r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d))?", re.ASCII
).fullmatch


def _instant(value: Any) -> datetime:
    """Return a time in UTC. A date is its first moment."""
    # A plus sign that was not encoded arrives as a space.
    text = str(value).replace(" ", "+")
    if _is_timestamp(text) is not None:
        with contextlib.suppress(ValueError, OverflowError):
            time = datetime.fromisoformat(text)
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    raise PydanticCustomError(
        "instant", "Must be a date (2026-01-31) or a time with its offset (2026-01-31T09:30Z)"
    )


def _flag(value: Any) -> bool:
    if value not in {"true", "false"}:
        raise PydanticCustomError("flag", "Must be true or false")
    return bool(value == "true")


Instant = Annotated[datetime, BeforeValidator(_instant)]
Flag = Annotated[bool, BeforeValidator(_flag)]


class Query(BaseModel):
    """The parameters of an address, under their JSON names."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    # Parameters that may be given more than once: their values are lists.
    repeatable: ClassVar[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class KnownParameters:
    """The names of a route's parameters, and which of them may come more than once."""

    names: frozenset[str] = frozenset()
    repeatable: frozenset[str] = frozenset()


NO_PARAMETERS = KnownParameters()


def parse_query(
    model: type[Model], query: MultiMapping[str], *, unknown: Unknown = "refuse"
) -> Model:
    """Read an address's parameters; raises `Problem` 400 that names every wrong one."""
    given = {
        name: query.getall(name) if name in model.repeatable else query[name] for name in query
    }
    return parse(model, given, unknown=unknown)


def refuse_unknown(
    query: MultiMapping[str], known: KnownParameters, *, unknown: Unknown = "refuse"
) -> None:
    """Raise `Problem` 400 for parameters that would be ignored, or that come twice."""
    errors = {
        name: "Is not a parameter of this address"
        for name in query
        if name not in known.names and unknown == "refuse"
    }
    errors |= {
        name: "May be given once"
        for name in known.names - known.repeatable
        if len(query.getall(name, [])) > 1
    }
    if errors:
        raise validation_problem(errors)


def canonical_id(text: str, *, missing: str) -> str:
    """Return a UUID in its canonical form; raises `Problem` with code `missing` for any other text.

    As text, since that is what the cache is asked with.
    """
    canonical = text.lower()
    if _is_uuid(canonical) is None:
        raise Problem(missing, "There is nothing with this id")
    return canonical
