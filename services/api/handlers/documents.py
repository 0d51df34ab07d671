"""`/openapi.json`, `/asyncapi.json` and `/docs`: the description of the API, for everyone."""

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any, Self

from aiohttp import hdrs, web
from multidict import CIMultiDict

from services.api.server.routing import Call
from services.api.web.endpoint import JSON, Access, Answer, Endpoint, Header, Parameter, Tag
from services.api.web.headers import IF_NONE_MATCH, accepts_gzip, entity_tags
from services.api.web.problems import Problem
from services.api.web.responses import SECURITY_HEADERS, WholeResponse

JSON_TEXT = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"

# The page loads and asks the API that it comes from, and nothing else. Icons are in the style.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CACHING = "public, max-age=300"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Bytes that stay the same as long as the process lives; compressed when first asked for."""

    headers: Mapping[str, str]
    plain: bytes
    etag: str
    kept_compressed: bytes | None = None

    @classmethod
    def of(
        cls,
        content: bytes,
        media_type: str,
        *,
        compressed: bytes | None = None,
        etag: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the document with this content; `headers` are set beside or instead of others."""
        policy = PAGE_POLICY if media_type == HTML else SECURITY_HEADERS["Content-Security-Policy"]
        return cls(
            headers={
                **SECURITY_HEADERS,
                "Content-Security-Policy": policy,
                hdrs.CONTENT_TYPE: media_type,
                hdrs.CACHE_CONTROL: CACHING,
                hdrs.VARY: hdrs.ACCEPT_ENCODING,
                **(headers or {}),
            },
            plain=content,
            kept_compressed=compressed,
            etag=etag or hashlib.sha256(content).hexdigest()[:16],
        )

    @classmethod
    @cache
    def asset(cls, name: str, media_type: str) -> Self:
        """Return a file of the page; large ones are kept compressed."""
        directory = files("services.api") / "docs"
        kept = directory / f"{name}.gz"
        if kept.is_file():
            compressed = kept.read_bytes()
            return cls.of(gzip.decompress(compressed), media_type, compressed=compressed)
        return cls.of((directory / name).read_bytes(), media_type)

    def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with the document, or that the client's copy of it is current."""
        is_compressed = accepts_gzip(request.headers)
        etag = f'"{self.etag}-gzip"' if is_compressed else f'"{self.etag}"'
        headers = CIMultiDict(self.headers)
        headers[hdrs.ETAG] = etag
        if _is_current(request, etag):
            return WholeResponse(None, status=304, headers=headers)
        if is_compressed:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        body = self._compressed() if is_compressed else self.plain
        return WholeResponse(body, status=200, headers=headers)

    def _compressed(self) -> bytes:
        kept = self.kept_compressed
        return _compressed(self.plain) if kept is None else kept


def _is_current(request: web.BaseRequest, etag: str) -> bool:
    if hdrs.IF_NONE_MATCH not in request.headers:
        return False
    tags = entity_tags(request.headers, hdrs.IF_NONE_MATCH)
    return tags is None or etag in tags


@cache
def _compressed(content: bytes) -> bytes:
    """Return a document's content compressed, which takes long for the largest ones."""
    return gzip.compress(content, mtime=0)


ETAG = Header(name="ETag", description="Of this version of the document", example='"5d1d3e6c2f5f"')
ENCODING = Header(
    name="Content-Encoding",
    description="`gzip` for clients that accept it",
    example="gzip",
    is_required=False,
)
ASSET_NAME = Parameter(
    name="name", place="path", description="The file's name", example="swagger-ui.css"
)


def document_endpoint(
    path: str,
    operation_id: str,
    summary: str,
    content: Mapping[str, Any],
    *,
    parameters: tuple[Parameter, ...] = (),
    problems: tuple[str, ...] = (),
) -> Endpoint:
    """Return the endpoint of a document. Browsers add parameters of their own to its address."""
    return Endpoint(
        "GET",
        path,
        id=operation_id,
        tag=Tag.DOCUMENTS,
        summary=summary,
        access=Access.PUBLIC,
        parameters=(*parameters, IF_NONE_MATCH),
        answers=(
            Answer(
                status=200,
                description="The document",
                content=content,
                headers=(ETAG, ENCODING),
            ),
            Answer(status=304, description="The client's copy is current", headers=(ETAG,)),
        ),
        problems=("validation-failed", *problems),  # of a header
        is_limited=False,
        is_lenient=True,
    )


class Later:
    """A document that is made when it is first asked for, beside the event loop.

    Most processes are never asked; to make all of them took a sixth of a start and of its memory.
    """

    def __init__(self, make: Callable[[], Document]) -> None:
        self._make = make
        self._made: Document | None = None
        self._making = asyncio.Lock()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer as the document does."""
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
        return self._made.answer(request)


class DocumentHandlers:
    """The documents, which are open to everyone."""

    def __init__(self, *, openapi: Callable[[], bytes], asyncapi: Callable[[], bytes]) -> None:
        self._openapi = Later(lambda: Document.of(openapi(), JSON_TEXT))
        self._asyncapi = Later(lambda: Document.of(asyncapi(), JSON_TEXT))
        self._page = Later(partial(Document.asset, "index.html", HTML))
        self._assets = {
            name: Later(partial(Document.asset, name, media_type))
            for name, media_type in (
                ("swagger-ui-bundle.js", JAVASCRIPT),
                ("swagger-ui.css", CSS),
                ("page.js", JAVASCRIPT),
                ("page.css", CSS),
                ("favicon-32x32.png", "image/png"),
            )
        }

    @document_endpoint("/openapi.json", "openApi", "This document", {JSON: dict[str, Any]})
    async def openapi(self, call: Call) -> web.StreamResponse:
        """Answer with the OpenAPI document."""
        return await self._openapi.answer(call.request)

    @document_endpoint(
        "/asyncapi.json",
        "asyncApi",
        "The events between the services, as AsyncAPI",
        {JSON: dict[str, Any]},
    )
    async def asyncapi(self, call: Call) -> web.StreamResponse:
        """Answer with the AsyncAPI document."""
        return await self._asyncapi.answer(call.request)

    @document_endpoint("/docs", "docs", "This document as a page", {"text/html": str})
    async def page(self, call: Call) -> web.StreamResponse:
        """Answer with the page."""
        return await self._page.answer(call.request)

    @document_endpoint(
        "/docs/{name}",
        "docsAsset",
        "A part of the page",
        {"text/css": str, "text/javascript": str, "image/png": bytes},
        parameters=(ASSET_NAME,),
        problems=("not-found",),
    )
    async def asset(self, call: Call) -> web.StreamResponse:
        """Answer with a file that the page loads."""
        asset = self._assets.get(call.param)
        if asset is None:
            raise Problem("not-found", "The page has no such part")
        return await asset.answer(call.request)
