"""The words in which an operation is described: what stands beside a route in the table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel

from services.api.web.query import KnownParameters, Query

JSON = "application/json"


class Tag(StrEnum):
    """The chapters of the document, in their order."""

    AUTHENTICATION = "Authentication"
    LEADS = "Leads"
    SUMMARIES = "Summaries"
    OPERATIONS = "Operations"
    ADMINISTRATION = "Administration"
    HEALTH = "Health"
    DOCUMENTS = "Documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a request. `type` is an annotation that pydantic understands."""

    name: str
    place: Literal["path", "query", "header"] = "query"
    description: str
    type: Any = str
    is_required: bool = False
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header of an answer. One that is not required comes with some of the answers only."""

    name: str
    description: str
    example: str
    type: Any = str
    is_required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a request carries: a type, and an example, for each media type that is read."""

    content: Mapping[str, Any]
    examples: Mapping[str, Any]

    @classmethod
    def json(cls, model: type[BaseModel], **example: Any) -> Self:
        """Return a body that is one JSON object, such as `example`."""
        return cls(content={JSON: model}, examples={JSON: example})


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where a client may go on: an operation, and what of this answer it is asked with."""

    operation_id: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that is no problem: a type for each media type, none when there is no body."""

    status: int
    description: str
    content: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: tuple[Header, ...] = ()
    links: Mapping[str, Link] = field(default_factory=dict[str, Link])

    @classmethod
    def json(cls, status: int, model: Any, description: str, **rest: Any) -> Self:
        """Return an answer with one JSON value."""
        return cls(status=status, content={JSON: model}, description=description, **rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One operation as its clients need to know it.

    `query` is the model that reads the parameters of the address. `problems` are the codes that
    are this operation's own: those that come with signing in, with an address, with a body or
    with every operation are added to them.
    """

    id: str
    tag: Tag
    summary: str
    explanation: str = ""
    parameters: tuple[Parameter, ...] = ()
    query: type[Query] | None = None
    body: Body | None = None
    answers: tuple[Answer, ...]
    problems: tuple[str, ...] = ()
    is_deprecated: bool = False

    @property
    def known_parameters(self) -> KnownParameters:
        """The parameters that the address may have."""
        named = {parameter.name for parameter in self.parameters if parameter.place == "query"}
        if self.query is None:
            return KnownParameters(frozenset(named))
        fields = self.query.model_fields.items()
        return KnownParameters(
            frozenset(named | {info.alias or name for name, info in fields}), self.query.repeatable
        )

    def alias(self, operation_id: str) -> "Description":
        """Return the description of the same operation at an older path."""
        return replace(self, id=operation_id, is_deprecated=True)
