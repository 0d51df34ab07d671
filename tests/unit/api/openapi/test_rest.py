"""The page about the endpoints: complete, true to the OpenAPI document, and the one in `docs/`."""

import json
import re
from collections.abc import Iterator

from services.api.documents import openapi_json, rest_markdown
from services.api.handlers import ENDPOINTS
from services.api.web.problems import PROBLEMS
from tests.support.repository import ROOT

PAGE = rest_markdown().decode()


def rows() -> Iterator[tuple[str, str, set[str]]]:
    """Yield method, path and statuses of each row."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch("`[A-Z]+`", cells[0]):
            method, paths, _, answers, problems, _ = cells
            for path in re.findall("`(.+?)`", paths):
                yield method.strip("`"), path, set(re.findall(r"\b\d{3}\b", answers + problems))


def test_every_endpoint_is_in_it_once() -> None:
    shown = [(method, path) for method, path, _ in rows()]

    assert len(shown) == len(set(shown))
    assert set(shown) == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}


def test_the_statuses_are_those_of_the_openapi_document() -> None:
    described = json.loads(openapi_json())["paths"]

    for method, path, statuses in rows():
        assert statuses
        assert statuses <= described[path][method.lower()]["responses"].keys()


def test_every_problem_is_in_it() -> None:
    for code, (status, _) in PROBLEMS.items():
        assert f"| `{code}` | {status} |" in PAGE


def test_the_published_page_is_current() -> None:
    assert (ROOT / "docs/rest.md").read_text() == PAGE, "run `make docs`"
