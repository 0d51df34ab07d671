"""What the fuzzer needs to know of the contract beyond what a JSON schema can say.

Some requests are neither right nor wrong by the document, but left to the API: text that is
accepted in another form than it is sent in, cursors that were in no answer, addresses on which
standards disagree. These are not sent.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, cast

import schemathesis
from jsonschema import FormatChecker
from pydantic import TypeAdapter, ValidationError

from services.api.handlers.lead_list import LeadFilterQuery
from shared.events.lead_fields import Cleaned, Email, Picture

Json = dict[str, Any]

_formats = FormatChecker()
_text: TypeAdapter[str] = TypeAdapter(Annotated[str, Cleaned])
_email: TypeAdapter[str] = TypeAdapter(Email)
_picture: TypeAdapter[str] = TypeAdapter(Picture)
_filter: TypeAdapter[LeadFilterQuery] = TypeAdapter(LeadFilterQuery)


@schemathesis.serializer("text/csv", "application/x-ndjson")
def as_it_is(_context: schemathesis.SerializationContext, value: object) -> bytes:
    """Send a file's text, which is no JSON."""
    return str(value).encode(errors="replace")


@schemathesis.hook
def filter_case(_context: schemathesis.HookContext, case: "schemathesis.Case[Any]") -> bool:
    """Leave out what is left to the API."""
    body = cast("Json", case.body) if isinstance(case.body, dict) else {}
    path, query = case.path_parameters or {}, case.query or {}
    headers = cast("Mapping[str, str]", case.headers or {})
    return (
        all(map(is_plain, texts([body, query])))
        and is_decided_body(body)
        and is_decided_query(query)
        and is_of_one_mind(path, body)
        and not is_put_off(case.method, headers)
        # Made up in spite of its pattern.
        and "" not in (headers.get("If-Match"), headers.get("If-None-Match"))
    )


def is_of_one_mind(path: Json, body: Json) -> bool:
    """Whether body and path do not name different leads."""
    named = path.get("externalId")
    return named is None or body.get("externalId") in (None, named)


def is_decided_body(body: Json) -> bool:
    """Whether all agree on each value: the standards, their checkers and the API."""
    email, picture, password = (body.get(name) for name in ("email", "picture", "password"))
    return (
        (not isinstance(email, str) or accepts(_email, email) == _formats.conforms(email, "email"))
        and (not isinstance(picture, str) or accepts(_picture, picture) == is_uri(picture))
        # bcrypt counts bytes, a schema characters.
        and (not isinstance(password, str) or (password.isascii() and password.isprintable()))
    )


def is_put_off(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a deletion need not wait for its end: what is read then may be there yet."""
    return method == "DELETE" and "respond-async" in headers.get("Prefer", "")


def is_decided_query(query: Json) -> bool:
    """Whether a cursor was given to somebody, a search has something to find, and so on."""
    return (
        "after" not in query
        # A mark that only one of the formats has.
        and ("bom" not in query or query.get("format") == "csv")
        and ("q" not in query or accepts(_filter, {"q": query["q"]}))
        and (
            "email" not in query
            or accepts(_filter, {"email": query["email"]})
            == _formats.conforms(query["email"], "email")
        )
    )


def is_uri(text: str) -> bool:
    return text.isascii() and text.startswith(("http://", "https://"))


def is_plain(text: str) -> bool:
    """Whether text is as it would be stored: trimmed, composed, and with all of it to be seen."""
    try:
        return _text.validate_python(text) == text
    except ValidationError:  # refused by its pattern
        return text == text.strip() and unicodedata.is_normalized("NFC", text)


def accepts(adapter: TypeAdapter[Any], value: object) -> bool:
    """Whether the product's own type takes a value."""
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def texts(value: object) -> Iterator[str]:
    """Yield every string in a JSON value."""
    match value:
        case str():
            yield value
        case dict():
            for child in cast("Json", value).values():
                yield from texts(child)
        case list():
            for child in cast("list[object]", value):
                yield from texts(child)
        case _:
            pass
