"""Finding routes."""

import pytest
from aiohttp import web

from services.api.server.routing import Call, Route, Router
from services.api.web.problems import Problem
from services.api.web.responses import json_response


async def answer(_call: Call) -> web.StreamResponse:
    return json_response(b"{}")


ROUTER = Router(
    [
        Route("GET", "/leads", answer),
        Route("POST", "/leads", answer),
        Route("GET", "/leads/{id}", answer),
        Route("POST", "/leads/{id}/summary", answer),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "route", "param"),
    [
        ("GET", "/leads", "/leads", ""),
        ("HEAD", "/leads", "/leads", ""),
        ("GET", "/leads/", "/leads", ""),
        ("GET", "/leads/7", "/leads/{id}", "7"),
        ("GET", "/leads/7/", "/leads/{id}", "7"),
        ("POST", "/leads/7/summary", "/leads/{id}/summary", "7"),
    ],
)
def test_a_route_is_found(method: str, path: str, route: str, param: str) -> None:
    found, value = ROUTER.find(method, path)
    assert (found.path, value) == (route, param)


@pytest.mark.parametrize(
    "path", ["", "/", "//", "/Leads", "/leads//", "/leads/7/8", "/leads/7/summary/x", "/lead\n"]
)
def test_other_paths_lead_nowhere(path: str) -> None:
    with pytest.raises(Problem) as raised:
        ROUTER.find("GET", path)
    assert raised.value.code == "not-found"


def test_a_wrong_method_is_told_the_right_ones() -> None:
    with pytest.raises(Problem) as raised:
        ROUTER.find("DELETE", "/leads")
    assert raised.value.code == "method-not-allowed"
    assert raised.value.headers == {"Allow": "GET, HEAD, OPTIONS, POST"}
