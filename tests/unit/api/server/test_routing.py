"""Routes: made of declarations on methods, and found by method and path."""

import pytest
from aiohttp import web

from services.api.server.routing import Call, Route, Router, routes_of
from services.api.web.endpoint import Access, Answer, Endpoint, Parameter, Tag
from services.api.web.problems import Problem
from services.api.web.query import KnownParameters
from services.api.web.responses import json_response


async def answer(_call: Call) -> web.StreamResponse:
    return json_response(b"{}")


ROUTER = Router(
    [
        Route("GET", "/leads", answer),
        Route("POST", "/leads", answer),
        Route("GET", "/leads/{id}", answer),
        Route("POST", "/leads/{id}/summary", answer),
        Route("GET", "/page/{part*}", answer),
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
        ("GET", "/page/style", "/page/{part*}", "style"),
        ("GET", "/page/style/base.css", "/page/{part*}", "style/base.css"),
    ],
)
def test_a_route_is_found(method: str, path: str, route: str, param: str) -> None:
    found, value = ROUTER.find(method, path)
    assert (found.path, value) == (route, param)


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "/Leads", "/leads//", "/leads/7/8", "/leads/7/summary/x", "/lead\n", "/page/"],
)
def test_other_paths_lead_nowhere(path: str) -> None:
    with pytest.raises(Problem) as raised:
        ROUTER.find("GET", path)
    assert raised.value.code == "not-found"


def test_a_wrong_method_gets_the_allowed_ones() -> None:
    with pytest.raises(Problem) as raised:
        ROUTER.find("DELETE", "/leads")
    assert raised.value.code == "method-not-allowed"
    assert raised.value.headers == {"Allow": "GET, HEAD, OPTIONS, POST"}


class Handlers:
    """One method that is declared, and one that is not."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    @Endpoint(
        "GET",
        "/things/{id}",
        aliases={"/thing/{id}": "readThingAlias"},
        id="readThing",
        tag=Tag.LEADS,
        summary="Read a thing",
        access=Access.PUBLIC,
        parameters=(Parameter(name="deep", description="All of it", type=bool),),
        answers=(Answer(status=200, description="The thing"),),
        is_bounded=True,
    )
    async def read(self, call: Call) -> web.StreamResponse:
        """Answer with the body."""
        return json_response(self._body + call.param.encode())

    async def undeclared(self, call: Call) -> web.StreamResponse:
        """Answer to no path."""
        raise NotImplementedError(call)


class TestRoutesOf:
    def test_a_declared_method_has_a_route_at_each_of_its_paths(self) -> None:
        handlers = Handlers(b"")

        routes = routes_of(handlers)

        assert [(route.method, route.path) for route in routes] == [
            ("GET", "/things/{id}"),
            ("GET", "/thing/{id}"),
        ]
        for route in routes:
            assert route.handler == handlers.read
            assert (route.access, route.is_bounded, route.is_limited) == (Access.PUBLIC, True, True)
            assert route.parameters == KnownParameters(frozenset({"deep"}))

    def test_each_object_has_routes_of_its_own(self) -> None:
        first, second = Handlers(b"1"), Handlers(b"2")

        assert [route.handler for route in routes_of(first, second)] == [
            *(first.read, first.read),
            *(second.read, second.read),
        ]
