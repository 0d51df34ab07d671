"""An endpoint: all that router and documents know of it, declared on the method that answers it.

    @Endpoint("GET", "/leads/{id}", id="readLead", tag=Tag.LEADS, summary="Read a lead", ...)
    async def read(self, call: Call) -> web.StreamResponse: ...

`routes_of` makes the running API's routes of these declarations, `services.api.openapi` the
documents.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import Enum, StrEnum, auto
from typing import Any, Literal, Self, TypeVar

from aiohttp import web
from pydantic import BaseModel

from services.api.web.query import KnownParameters, Query

JSON = "application/json"

# The attribute of a method that holds its declaration.
_DECLARATION = "endpoint"

Method = TypeVar("Method", bound=Callable[..., Awaitable[web.StreamResponse]])


class Access(Enum):
    """Who may call an endpoint."""

    PUBLIC = auto()
    USER = auto()
    OPERATOR = auto()


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
    is_required: bool = True

    @classmethod
    def json(cls, model: type[BaseModel], **example: Any) -> Self:
        """Return a body that is one JSON object, such as `example`."""
        return cls(content={JSON: model}, examples={JSON: example})


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where a client may go on: an operation, and the parts of this answer that it needs."""

    operation_id: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that is no problem: a type for each media type, none when there is no body.

    `on_request` are media types for those who prefer them. In `content`, generators of clients
    would make one type of both.
    """

    status: int
    description: str
    content: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: tuple[Header, ...] = ()
    on_request: tuple[str, ...] = ()
    links: Mapping[str, Link] = field(default_factory=dict[str, Link])

    @classmethod
    def json(cls, status: int, model: Any, description: str, **rest: Any) -> Self:
        """Return an answer with one JSON value."""
        return cls(status=status, content={JSON: model}, description=description, **rest)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API: its address, who may call it, and how clients see it.

    `id`, `tag`, `summary` and `explanation` are the document's. `query` is the model that reads
    the parameters of the address. `problems` are the codes that are this operation's own: those
    that come with signing in, with an address, with a body or with every operation are added to
    them. `aliases` are older paths of the same operation, with the ids that it has there.

    One that `is_bounded` keeps its own deadlines: the general one costs as much as a read from
    the cache. One that is not limited may be called as often as a client likes. One that
    `is_lenient` ignores parameters of its address that it does not know.
    """

    method: str
    path: str
    _: KW_ONLY
    id: str
    tag: Tag
    summary: str
    explanation: str = ""
    access: Access = Access.USER
    parameters: tuple[Parameter, ...] = ()
    query: type[Query] | None = None
    body: Body | None = None
    answers: tuple[Answer, ...]
    problems: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    is_bounded: bool = False
    is_limited: bool = True
    is_lenient: bool = False
    is_deprecated: bool = False

    def __call__(self, function: Method) -> Method:
        """Declare that a handler's method answers this endpoint."""
        function.__dict__[_DECLARATION] = self
        return function

    @property
    def known_parameters(self) -> KnownParameters | None:
        """The parameters that the address may have; None when it may have any."""
        if self.is_lenient:
            return None
        named = {parameter.name for parameter in self.parameters if parameter.place == "query"}
        if self.query is None:
            return KnownParameters(frozenset(named))
        fields = self.query.model_fields.items()
        return KnownParameters(
            frozenset(named | {info.alias or name for name, info in fields}), self.query.repeatable
        )


def declared_endpoints(handlers: type) -> Iterator[tuple[str, Endpoint]]:
    """Yield the endpoints of a class of handlers, each with the name of its method."""
    for name, member in vars(handlers).items():
        endpoint = getattr(member, _DECLARATION, None)
        if isinstance(endpoint, Endpoint):
            yield name, endpoint
            for path, id_ in endpoint.aliases.items():
                yield name, replace(endpoint, path=path, id=id_, is_deprecated=True)
