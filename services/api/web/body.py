"""Reading a request's body: bounded, in time, strictly JSON, and as a model."""

import asyncio
import contextlib
import json
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable
from datetime import timedelta
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar, cast

from aiohttp import HttpVersion11, hdrs, web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from services.api.web.problems import Problem, validation_problem
from shared.events.wording import message_of

BODY_LIMIT = 64 * 1024
JSON_ONLY = ("application/json",)
MERGE_PATCH = "application/merge-patch+json"
MAX_DEPTH = 32
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# A request can be wrong in more ways, and have longer keys, than anyone will read.
MOST_ERRORS = 50
LONGEST_NAME = 60

Buffer = TypeVar("Buffer", bytes, bytearray)
Model = TypeVar("Model", bound=BaseModel)

# What is done about fields and parameters that nothing here knows.
Unknown: TypeAlias = Literal["refuse", "ignore"]


async def read_json_object(
    request: web.BaseRequest,
    *,
    within: timedelta,
    limit: int = BODY_LIMIT,
    media_types: Collection[str] = JSON_ONLY,
) -> dict[str, Any]:
    """Return the body's JSON object of `limit` bytes at most.

    Raises `Problem` 400, 408, 413, 415 or 417.
    """
    _check_media_type(request, media_types)
    return _as_object(parse_json(await _read(request, within=within, limit=limit)))


async def read_optional_json_object(
    request: web.BaseRequest, *, within: timedelta
) -> dict[str, Any]:
    """Return the body's JSON object, and an empty one where there is no body.

    Raises like `read_json_object`.
    """
    if not request.body_exists:
        return {}
    _check_media_type(request, JSON_ONLY)
    body = await _read(request, within=within, limit=BODY_LIMIT)
    return _as_object(parse_json(body)) if body.strip() else {}


def parse_json(body: bytes) -> object:
    """Return the value of one JSON text in UTF-8; raises `Problem` 400.

    Stricter than most: duplicate keys, NaN, infinities and deep nesting are refused. A byte order
    mark is passed over.
    """
    try:
        value: object = _decoder.decode(body.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError as error:
        raise Problem("malformed-json", "The body is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise Problem("malformed-json", f"{error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # an integer of thousands of digits
        raise Problem("malformed-json", "A number is too long") from error
    # No deeper than there are brackets, of which a lead has one.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise _too_deep()
    return value


def parse(model: type[Model], value: object, *, unknown: Unknown = "refuse") -> Model:
    """Validate a JSON value; raises `Problem` 400 that names every wrong field."""
    try:
        return model.model_validate(value, extra="ignore" if unknown == "ignore" else None)
    except ValidationError as error:
        raise validation_problem(_explain(error)) from None


def _explain(error: ValidationError) -> dict[str, str]:
    details = error.errors(include_url=False, include_input=False)
    return {_name(detail): message_of(detail) for detail in details[:MOST_ERRORS]}


def _name(detail: ErrorDetails) -> str:
    return ".".join(str(part)[:LONGEST_NAME] for part in detail["loc"]) or "body"


async def read_chunks(
    request: web.BaseRequest,
    *,
    size: int,
    within: timedelta,
    limit: int,
    media_types: Collection[str],
) -> AsyncGenerator[bytes]:
    """Yield a body of `limit` bytes at most as it comes, `size` bytes at a time.

    Each chunk may take as long as a whole body elsewhere, and the body may be in any charset.
    Raises like `read_json_object`.
    """
    _check_media_type(request, media_types, charsets=None)
    await _begin(request, limit)
    left = limit
    while True:
        with _arrival():
            async with asyncio.timeout(within.total_seconds()):
                chunk = await _read_chunk(request, size)
        left -= len(chunk)
        if left < 0:
            raise _too_large(limit)
        if chunk:
            yield chunk
        if len(chunk) < size:
            return


def _check_media_type(
    request: web.BaseRequest,
    media_types: Collection[str],
    charsets: Collection[str] | None = ("utf-8", "utf8"),
) -> None:
    if hdrs.CONTENT_ENCODING in request.headers:
        raise Problem("unsupported-media-type", "Send the body without a Content-Encoding")
    if request.headers.get(hdrs.CONTENT_TYPE) in media_types:
        return  # in nearly all requests it has no parameters
    charset = (request.charset or "utf-8").lower()
    is_read = charsets is None or charset in charsets
    if request.content_type not in media_types or not is_read:
        wanted = " or ".join(f"'Content-Type: {media_type}'" for media_type in media_types)
        raise Problem("unsupported-media-type", f"Send the body as {wanted}")


async def _read(request: web.BaseRequest, *, within: timedelta, limit: int) -> bytes:
    await _begin(request, limit)
    content = request.content
    if content.is_eof() and content.exception() is None:  # it came with the headers, as nearly all
        return _within(content.read_nowait(), limit)
    with _arrival():
        async with asyncio.timeout(within.total_seconds()):
            return await _read_all(request, limit)


async def _begin(request: web.BaseRequest, limit: int) -> None:
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    await _answer_expectation(request)


@contextlib.contextmanager
def _arrival() -> Generator[None]:
    """Raise `Problem` for a body that does not arrive as it should."""
    try:
        yield
    except web.RequestPayloadError as error:
        raise Problem("malformed-request", "The body is not framed as HTTP requires") from error
    except TimeoutError as error:
        raise Problem("body-timeout", "The body took too long to arrive") from error
    except ConnectionError as error:
        raise Problem("malformed-request", "The body broke off") from error


async def _read_chunk(request: web.BaseRequest, size: int) -> bytes:
    try:
        return await request.content.readexactly(size)
    except asyncio.IncompleteReadError as error:
        return error.partial


async def _read_all(request: web.BaseRequest, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        _within(body, limit)
    return bytes(body)


def _within(body: Buffer, limit: int) -> Buffer:
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _answer_expectation(request: web.BaseRequest) -> None:
    expectation = request.headers.get(hdrs.EXPECT)
    if expectation is None or request.version < HttpVersion11:
        return
    if expectation.lower() != "100-continue":
        raise Problem("expectation-failed", "The only expectation met is 100-continue")
    await request.writer.write(CONTINUE)
    # The answer proper has not begun.
    request.writer.output_size = 0


def _as_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Problem("malformed-json", "The body must be a JSON object")
    return cast("dict[str, Any]", value)


def _too_large(limit: int) -> Problem:
    return Problem("body-too-large", f"The body may have {limit} bytes at most")


def _too_deep() -> Problem:
    return Problem("malformed-json", f"The JSON may be {MAX_DEPTH} levels deep at most")


def _is_deeper(value: object, levels: int) -> bool:
    children: Iterable[object]
    if isinstance(value, dict):
        children = cast("dict[str, object]", value).values()
    elif isinstance(value, list):
        children = cast("list[object]", value)
    else:
        return False
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise Problem("malformed-json", "A key occurs twice in one object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Problem("malformed-json", f"{name} is not JSON")


_constant: Callable[[str], NoReturn] = _refuse_constant
_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
