"""Who may call what: every route with every identity."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from services.api.bootstrap import bootstrap
from services.api.handlers import ENDPOINTS, HANDLERS
from services.api.settings import ApiSettings
from services.api.web.endpoint import Access
from tests.support.api import ORIGIN, OpenApi, running_api
from tests.support.auth_server import AuthServer
from tests.support.forged_tokens import forgeries

OPERATOR_KEY = "correct-horse-battery-staple"

ADMITTED = {Access.USER: "user", Access.OPERATOR: "operator"}
PUBLIC = frozenset(
    {
        ("POST", "/authentication/signup"),
        ("POST", "/authentication/login"),
        ("POST", "/authentication/refresh"),
        ("GET", "/health"),
        ("GET", "/health/ready"),
        ("GET", "/health/serving"),
        ("GET", "/openapi.json"),
        ("GET", "/asyncapi.json"),
        ("GET", "/docs"),
        ("GET", "/docs/{name}"),
    }
)


async def test_the_running_api_has_all_handlers(api_settings: ApiSettings) -> None:
    """The documents are made of the classes, in their order, the routes of the objects in any."""
    async with bootstrap(api_settings) as api:
        assert sorted(map(repr, map(type, api.handlers))) == sorted(map(repr, HANDLERS))


async def test_every_route_is_open_to_those_it_is_meant_for(
    api_settings: ApiSettings, auth: AuthServer
) -> None:
    identities: dict[str, Callable[[], dict[str, str]]] = {
        "nobody": dict,
        # Each time another session, since one of the routes ends it.
        "user": lambda: {"Authorization": f"Bearer {auth.token(session_id=str(uuid4()))}"},
        "operator": lambda: {"X-API-Key": OPERATOR_KEY},
        "forger": lambda: {"Authorization": f"Bearer {auth.token()}x", "X-API-Key": "api-key"},
    }
    table = [(endpoint.method, endpoint.path, endpoint.access) for endpoint in ENDPOINTS]
    assert {row[:2] for row in table if row[2] is Access.PUBLIC} == PUBLIC
    async with running_api(
        api_settings,
        api_key=SecretStr(OPERATOR_KEY),
        create_timeout=timedelta(seconds=0.1),
        summary_timeout=timedelta(seconds=0.1),
    ) as api:
        for method, path, access in table:
            for identity, headers in identities.items():
                address = re.sub(r"{\w+}", str(uuid4()), path)
                # Not read to the end: the stream of changes has none.
                async with api.stream(method, address, headers=headers()) as response:
                    is_admitted = access is Access.PUBLIC or identity == ADMITTED[access]
                    assert (response.status_code != 401) == is_admitted, (method, path, identity)
                    challenge = response.headers.get("WWW-Authenticate", "")
                scheme = "ApiKey " if access is Access.OPERATOR else "Bearer"
                assert is_admitted or challenge.startswith(scheme)


async def test_no_forged_token_opens_anything(auth: AuthServer, open_api: OpenApi) -> None:
    async with open_api() as api:
        for name, forge in forgeries().items():
            token = forge(auth) or "."  # no client sends an empty one
            response = await api.get("/leads", headers={"Authorization": f"Bearer {token}"})
            assert response.status_code == 401, name


async def test_a_valid_token_costs_the_auth_server_nothing(
    auth: AuthServer, open_api: OpenApi
) -> None:
    async with open_api() as api:
        for _ in range(10):
            assert (await api.get("/leads")).status_code == 200
        assert auth.asked_user == 0
        assert auth.asked_keys <= 2


async def test_users_with_many_claims_and_cookies_are_let_in(
    auth: AuthServer, open_api: OpenApi
) -> None:
    async with open_api() as api:
        for claims, cookie in ((60, 9_000), (9_000, 60), (11_500, 16_000)):
            token = auth.token(app_metadata={"roles": "r" * claims})
            headers = {"Authorization": f"Bearer {token}", "Cookie": "c=" + "c" * cookie}
            assert (await api.get("/leads", headers=headers)).status_code == 200
        assert len(token) > 15_000


async def test_an_expired_token_is_forgotten(auth: AuthServer, api_settings: ApiSettings) -> None:
    # Accepted for the leeway only, so it expires while it is remembered.
    token = auth.token(exp=int(time.time()) - 28)
    async with running_api(api_settings, token=token) as api:
        statuses = [(await api.get("/leads")).status_code for _ in range(2)]
        assert statuses == [200, 200]
        until = time.time() + 4
        while time.time() < until and (await api.get("/leads")).status_code == 200:
            pass
        assert (await api.get("/leads")).status_code == 401


@pytest.mark.parametrize("trouble", ["is_down", "is_hanging"])
async def test_an_unreachable_auth_server_is_not_the_callers_fault(
    trouble: str, auth: AuthServer, api_settings: ApiSettings
) -> None:
    setattr(auth, trouble, True)
    settings = replace(
        api_settings,
        auth=api_settings.auth.model_copy(update={"auth_timeout": timedelta(seconds=0.3)}),
    )
    async with running_api(settings, token=auth.token()) as api:
        response = await api.get("/leads")
        assert (response.status_code, response.json()["code"]) == (503, "auth-unavailable")
        assert "WWW-Authenticate" not in response.headers


class TestCors:
    @pytest.mark.parametrize(
        ("origin", "is_allowed"),
        [
            (ORIGIN, True),
            ("http://app.example.com", False),
            ("https://app.example.com:8443", False),
            ("https://app.example.com.evil.example", False),
            ("https://evil-app.example.com", False),
            ("https://APP.example.com", False),
            ("https://app.example.com/", False),
            ("null", False),
            ("*", False),
            ("", False),
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/health"), ("GET", "/leads/7"), ("OPTIONS", "/leads"), ("GET", "/nowhere")],
    )
    async def test_only_listed_origins_may_read_answers(
        self,
        origin: str,
        is_allowed: bool,  # noqa: FBT001 (a parameter of the table)
        method: str,
        path: str,
        aloof_api: httpx.AsyncClient,
    ) -> None:
        response = await aloof_api.request(
            method, path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        )
        allowed = response.headers.get("Access-Control-Allow-Origin")
        assert allowed == (origin if is_allowed else None)
        assert response.headers["Vary"] == "Origin"
        exposed = response.headers.get("Access-Control-Expose-Headers", "")
        assert {"ETag", "Link", "Location", "RateLimit", "X-Request-Id"}.issubset(
            exposed.split(", ")
        ) == is_allowed
        assert "Access-Control-Allow-Credentials" not in response.headers

    async def test_a_preflight_needs_no_token_and_names_what_may_be_sent(
        self, aloof_api: httpx.AsyncClient
    ) -> None:
        response = await aloof_api.options(
            "/leads",
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
                "Authorization": "",
            },
        )
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS, POST"
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        allowed = response.headers["Access-Control-Allow-Headers"].split(", ")
        # The asterisk is for whatever monitoring adds; it leaves out Authorization alone.
        assert {"Authorization", "Idempotency-Key", "traceparent", "baggage", "*"} <= set(allowed)

    async def test_without_a_list_no_page_may_read_anything(self, api: httpx.AsyncClient) -> None:
        response = await api.get("/leads", headers={"Origin": ORIGIN})
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_every_answer_is_hardened(aloof_api: httpx.AsyncClient) -> None:
    for path in ("/health", "/leads", "/leads/7", "/nowhere"):
        headers = (await aloof_api.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Strict-Transport-Security"].startswith("max-age=")
        assert headers["Server"] == "leads"
        assert headers["Cache-Control"] in {"no-store", "private, no-cache"}
