"""Headers that several endpoints read or send: Prefer, Accept, Idempotency-Key, entity tags."""

import asyncio
import re
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Annotated, TypeAlias
from uuid import UUID, uuid5

from aiohttp import hdrs, web
from multidict import MultiMapping
from pydantic import Field

from services.api.auth.tokens import User
from services.api.storage.requests import RequestNotes
from services.api.web.endpoint import Header, Parameter
from services.api.web.problems import Problem, validation_problem
from shared.domain.errors import UnavailableError
from shared.events.envelope import new_id

LONGEST_KEY = 255
TIME_ORDERED = 7

IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="Makes it safe to send the request again: the same key with the same body has one "
    "effect and one answer, with another body it is refused",
    # Printable ASCII.
    type=Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern="^[ -~]*$")],
)
PREFER = Parameter(
    name="Prefer",
    place="header",
    description="`respond-async` (RFC 7240): answer 202 at once, without waiting for the outcome",
    example="respond-async",
)
_ASCII_TAG = '(W/)?"[!#-~]*"'
EntityTags: TypeAlias = Annotated[
    str, Field(pattern=rf"^(\*|[ ,]*{_ASCII_TAG}( *,[ ,]*{_ASCII_TAG})*[ ,]*)$")
]
IF_NONE_MATCH = Parameter(
    name=hdrs.IF_NONE_MATCH,
    place="header",
    description="The ETag of a copy: 304 while it is current",
    type=EntityTags,
    example='"2"',
)
ETAG = Header(name="ETag", description="The lead's version", example='"2"')

_is_weight = re.compile(r"q\s*=\s*([01](?:\.\d{0,3})?)", re.ASCII).fullmatch
# Tags as in RFC 9110, 8.8.3, and lists of them as recipients have to read them (5.6.1.2): with
# empty elements. What is no ASCII has been decoded to other characters.
_TAG = r'(?:W/)?"[^\x00-\x20"\x7f]*"'
_is_list = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*").fullmatch
_tags = re.compile(_TAG).findall
# A version has one way to be written.
_version = re.compile(r'"([1-9]\d{0,17})(?:[-;]+[a-z]+)?"', re.ASCII).fullmatch
_NAMESPACE = UUID("5d1d3e6c-2f5f-5e0b-9c55-8f2f3a0f6b1e")


def prefers_async(request: web.BaseRequest) -> bool:
    """Whether the client would rather not wait for the outcome (RFC 7240)."""
    given = request.headers.getall(PREFER.name, ())
    preferences = ",".join(given).lower().split(",") if given else ()
    return any(preference.strip() == "respond-async" for preference in preferences)


def preferred_type(headers: MultiMapping[str], usual: str, *others: str) -> str:
    """Return the media type that a client likes best by its `Accept` (RFC 9110, 12.5.1).

    Others than the usual one have to be named, and liked better: many clients name all that there
    are, or anything.
    """
    accepted = headers.getall(hdrs.ACCEPT, ())
    if not any(other in value.lower() for value in accepted for other in others):
        return usual
    weights = _weights(accepted)
    ranges = (usual, f"{usual.partition('/')[0]}/*", "*/*")
    likings = {usual: next((weights[one] for one in ranges if one in weights), 0)}
    likings |= {other: weights.get(other, 0) for other in others}
    return max(likings, key=likings.__getitem__)


def accepts_gzip(headers: MultiMapping[str]) -> bool:
    """Whether a client takes bodies that are compressed."""
    weights = _weights(headers.getall(hdrs.ACCEPT_ENCODING, ()))
    return weights.get("gzip", weights.get("*", 0)) > 0


def only_value(headers: MultiMapping[str], name: str) -> str | None:
    """Return a header that has one value; None when it is not there.

    Raises `Problem` 400 for several: who stands in between may have looked at another one.
    """
    values = headers.getall(name, ())
    if len(values) > 1:
        raise validation_problem({name: "Must be there once"})
    return values[0] if values else None


def entity_tags(headers: MultiMapping[str], name: str) -> frozenset[str] | None:
    """Return the tags in quotes that If-Match or If-None-Match lists; None when it is `*`.

    Without the mark of weak ones: proxies that compress an answer add it. Raises `Problem` 400 for
    what is no list of tags.
    """
    header = ",".join(headers.getall(name, ()))
    if header.strip(" \t") == "*":
        return None
    if _is_list(header) is None:
        raise validation_problem({name: 'Must be an ETag such as "2", or *'})
    return frozenset(tag.removeprefix("W/") for tag in _tags(header))


def versions_of(tags: Collection[str]) -> set[int]:
    """Return the versions of a lead that tags name.

    Proxies that compress an answer add `-gzip` to its tag, and a version is the same data however
    it is encoded.
    """
    return {int(match[1]) for tag in tags if (match := _version(tag))}


def _weights(values: Sequence[str]) -> dict[str, float]:
    """Return what a header such as Accept lists, with the weights."""
    weights: dict[str, float] = {}
    for one in ",".join(values).lower().split(","):
        name, *parameters = (part.strip() for part in one.split(";"))
        weights[name] = max(_weight(parameters), weights.get(name, 0))
    return weights


def _weight(parameters: Sequence[str]) -> float:
    """Return the `q` of a range: 1 unless it says less."""
    return next((float(match[1]) for one in parameters if (match := _is_weight(one))), 1)


class IdempotencyKeys:
    """Knows what each key was first used for."""

    def __init__(self, notes: RequestNotes, *, timeout: timedelta) -> None:
        self._notes = notes
        self._seconds = timeout.total_seconds()

    async def check_key(
        self, request: web.BaseRequest, event_id: UUID, intent: Callable[[], str]
    ) -> None:
        """Raise `Problem` 422 when the request's key, if any, has been used for another intent.

        The event's consumer would notice too. But requests under one key share the event's id
        and so the first reply to it, which must not answer a request for something else.
        """
        if IDEMPOTENCY_KEY.name not in request.headers:
            return
        try:
            async with asyncio.timeout(self._seconds):
                is_same = await self._notes.is_same_content(event_id, intent().encode())
        except TimeoutError as error:
            raise UnavailableError("Redis did not say in time what the key belongs to") from error
        if not is_same:
            raise Problem("key-reused", "The Idempotency-Key belongs to another request")


def event_id_of(request: web.BaseRequest, *, user: User, operation: str) -> UUID:
    """Return the event's id: new, or made from the key; raises `Problem` 400.

    The same key from the same user for the same operation is the same event.
    """
    key = only_value(request.headers, IDEMPOTENCY_KEY.name)
    if key is None:
        return new_id()
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise validation_problem(
            {IDEMPOTENCY_KEY.name: f"Must have 1 to {LONGEST_KEY} printable ASCII characters"}
        )
    # Lengths first, so that no two triples run together into one name.
    return uuid5(_NAMESPACE, f"{len(user.id)} {len(operation)} {user.id}{operation}{key}")


def row_event_id(batch_id: UUID, row: int) -> UUID:
    """Return the id of the event of one row: the same when the batch is repeated."""
    return new_id() if batch_id.version == TIME_ORDERED else uuid5(batch_id, f"row {row}")


def lead_id_of(event_id: UUID) -> UUID:
    """Return the id of the lead that an event makes: the same when the event is repeated."""
    return new_id() if event_id.version == TIME_ORDERED else uuid5(event_id, "lead")
