"""`/openapi.json`, `/asyncapi.json` and `/docs`, described."""

from typing import Any

from services.api.openapi.description import JSON, Answer, Description, Header, Parameter, Tag
from services.api.openapi.recurring import IF_NONE_MATCH

ETAG = Header(name="ETag", description="Of this version of the document", example='"5d1d3e6c2f5f"')
ENCODING = Header(
    name="Content-Encoding",
    description="`gzip` for clients that accept it",
    example="gzip",
    is_required=False,
)


def _document(
    operation_id: str,
    summary: str,
    content: dict[str, Any],
    parameters: tuple[Parameter, ...] = (),
    problems: tuple[str, ...] = (),
) -> Description:
    return Description(
        id=operation_id,
        tag=Tag.DOCUMENTS,
        summary=summary,
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
        problems=problems,
    )


OPENAPI = _document("openApi", "This document", {JSON: dict[str, Any]})
ASYNCAPI = _document(
    "asyncApi", "The events between the services, as AsyncAPI", {JSON: dict[str, Any]}
)
PAGE = _document("docs", "This document as a page", {"text/html": str})
ASSET = _document(
    "docsAsset",
    "A part of the page",
    {"text/css": str, "text/javascript": str, "image/png": bytes},
    (
        Parameter(
            name="name", place="path", description="The file's name", example="swagger-ui.css"
        ),
    ),
    ("not-found",),
)
