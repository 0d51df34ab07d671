"""The documents that describe the API, as files: `python -m services.api.documents DIRECTORY`."""

import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from services.api.handlers import ENDPOINTS
from services.api.openapi.asyncapi import asyncapi_document
from services.api.openapi.document import openapi_document
from services.api.openapi.rest import rest_document


@cache
def openapi_json() -> bytes:
    """Return the OpenAPI document as JSON in UTF-8."""
    return _pretty(openapi_document(ENDPOINTS))


@cache
def asyncapi_json() -> bytes:
    """Return the AsyncAPI document as JSON in UTF-8."""
    return _pretty(asyncapi_document())


def rest_markdown() -> bytes:
    """Return the page about the endpoints as Markdown in UTF-8."""
    return rest_document(ENDPOINTS).encode()


DOCUMENTS: Mapping[str, Callable[[], bytes]] = {
    "openapi.json": openapi_json,
    "asyncapi.json": asyncapi_json,
    "rest.md": rest_markdown,
}


def main(directory: Path) -> None:
    """Write all of them."""
    for name, content in DOCUMENTS.items():
        (directory / name).write_bytes(content())


def _pretty(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
