"""What attackers try against the API besides tokens: injection, forged requests."""

import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from aiohttp import web

from services.api.handlers import ENDPOINTS
from services.api.settings import ApiSettings, LimitSettings
from shared.storage.pool import Database
from tests.support.api import ORIGIN, running_api
from tests.support.auth_project import running_project
from tests.support.builders import lead_body
from tests.support.raw_http import send_raw
from tests.support.stored_leads import store_lead

SQL = (
    "'; DROP TABLE leads.lead; --",
    "' OR '1'='1",
    "1; SELECT pg_sleep(5)",
    "$1",
    "%",
    "_%",
    "\\",
    "' UNION SELECT password FROM auth.users --",
    "\u02bc OR 1=1",
)
HEADERS = ("\r\nSet-Cookie: a=b", "\nX-Evil: 1", "%0d%0aX-Evil: 1", "\u560d\u560aX-Evil: 1", "\0")


class TestRequestForgery:
    """What a client names is never fetched."""

    async def test_no_address_in_a_lead_is_ever_asked(self, client: httpx.AsyncClient) -> None:
        asked: list[str] = []

        async def trap(request: web.BaseRequest) -> web.StreamResponse:
            asked.append(request.path)
            return web.Response(body=b"\x89PNG")

        runner = web.ServerRunner(web.Server(trap))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            address = f"http://127.0.0.1:{runner.addresses[0][1]}/secret.png"
            created = await client.post("/leads", json=lead_body(picture=address))
            assert created.status_code == 201
            lead = created.headers["Location"]
            assert (await client.get(lead)).json()["picture"] == address
            for path in (f"{lead}/history", "/leads", "/leads/export"):
                assert (await client.get(path)).status_code == 200
        finally:
            await runner.cleanup()
        assert asked == []

    @pytest.mark.parametrize(
        "picture",
        [
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_FLUSHALL",
            "javascript:alert(1)",
            "data:text/html,<script>",
            "ftp://example.com/a.png",
            "//example.com/a.png",
            "http://",
            "http://example.com/a b",
            "http://example.com/\r\nX: y",
        ],
    )
    async def test_an_address_that_is_none_of_the_web_is_refused(
        self, picture: str, aloof_api: httpx.AsyncClient
    ) -> None:
        answer = await aloof_api.post("/leads", json=lead_body(picture=picture))
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["picture"])

    async def test_the_auth_server_cannot_send_us_elsewhere(
        self, api_settings: ApiSettings, tmp_path: Path
    ) -> None:
        asked: list[str] = []

        async def redirect(request: web.BaseRequest) -> web.StreamResponse:
            asked.append(request.path)
            headers = {"Location": f"{project.url}/auth/v1/health"}
            return web.Response(status=307, headers=headers)

        runner = web.ServerRunner(web.Server(redirect))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with running_project(tmp_path) as project, project.control.misbehaving():
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            settings = project.settings(api_settings, supabase_uri=url)
            async with running_api(settings) as api:
                answer = await api.post(
                    "/authentication/login", json={"email": "a@example.com", "password": "x"}
                )
                assert (answer.status_code, answer.json()["code"]) == (503, "auth-unavailable")
            assert await project.control.counter("requests") == 0
        await runner.cleanup()
        assert "/auth/v1/token" in asked


class TestInjection:
    @pytest.mark.parametrize("payload", SQL)
    @pytest.mark.parametrize("name", ["sort", "status", "createdAfter", "limit", "after", "count"])
    async def test_a_parameter_is_one_of_those_allowed(
        self, name: str, payload: str, aloof_api: httpx.AsyncClient
    ) -> None:
        answer = await aloof_api.get("/leads", params={name: payload})
        assert (answer.status_code, list(answer.json()["errors"])) == (400, [name])

    @pytest.mark.parametrize("name", ["q", "country", "source"])
    async def test_text_to_look_for_is_nothing_but_text(
        self, name: str, api: httpx.AsyncClient, database: Database
    ) -> None:
        await store_lead(database)
        for payload in SQL:
            answer = await api.get("/leads", params={name: payload})
            assert answer.status_code in {200, 400}
            if answer.status_code == 200:
                assert answer.json() == [], payload
        assert len((await api.get("/leads")).json()) == 1

    async def test_text_comes_back_as_it_was_sent(self, client: httpx.AsyncClient) -> None:
        for payload in SQL[:4]:
            created = await client.post("/leads", json=lead_body(city=payload, lastName=payload))
            assert created.status_code == 201, created.text
            lead = (await client.get(created.headers["Location"])).json()
            assert (lead["city"], lead["lastName"]) == (payload, payload)
        assert len((await client.get("/leads")).json()) == 4

    @pytest.mark.parametrize(
        ("field", "text"),
        [
            ("email", "a" * 30_000 + "@"),
            ("email", "a@" + "a." * 15_000),
            ("email", '"' + "\\" * 30_000),
            ("email", "@" * 30_000),
            ("phone", "+" * 30_000),
            ("picture", "http://" + "a." * 15_000),
            ("picture", "http://" + "%" * 30_000),
            ("externalId", "0" * 30_000),
            ("firstName", "\u0301" * 15_000),
            ("dob", "1-" * 15_000),
        ],
    )
    async def test_no_text_takes_long_to_refuse(
        self, field: str, text: str, aloof_api: httpx.AsyncClient
    ) -> None:
        # The API's too, which runs in this process; others on the machine take none of it.
        started = time.process_time()
        answer = await aloof_api.post("/leads", json=lead_body(**{field: text}))
        assert time.process_time() - started < 0.5
        assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


class TestHeaders:
    @pytest.mark.parametrize("payload", HEADERS)
    async def test_nothing_sent_becomes_a_header(
        self, payload: str, aloof_api: httpx.AsyncClient
    ) -> None:
        sent = quote(payload, safe="")
        for path in (
            f"/leads/{sent}",
            f"/{sent}",
            f"/leads?q={sent}",
            f"/leads?limit={sent}",
            f"/docs/{sent}",
            f"/operations/{sent}?{sent}={sent}",
        ):
            headers = (await aloof_api.get(path)).headers
            assert "set-cookie" not in headers
            assert "x-evil" not in headers
            assert all(value.isprintable() for value in headers.values())

    @pytest.mark.parametrize(
        "line",
        [
            b"X-Request-Id: a\rb",
            b"X-Request-Id: a\r\n b",
            b"X-Request-Id: a\x00b",
            b"Origin: https://app.example.com\rX: y",
            b"Idempotency-Key: a\x0bb",
            b"Authorization : Bearer x",
            b" X-Folded: y",
        ],
    )
    async def test_a_malformed_header_is_refused_or_ignored(
        self, line: bytes, aloof_api: httpx.AsyncClient
    ) -> None:
        request = b"GET /leads HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n"
        answer = await send_raw(aloof_api, request % line)
        assert answer.status in {400, 401}
        assert set(answer.headers) & {"x", "x-folded", "set-cookie"} == set()
        assert answer.headers["x-request-id"].replace("-", "").isalnum()

    @pytest.mark.parametrize(
        "origin",
        [
            *("null", "NULL", "", "*", "https://app.example.com.evil.example"),
            *("https://evil.example/https://app.example.com", "https://app.example.com@evil"),
            *("https://app.example.com\u200b", "https://app.example.com ", "app.example.com"),
            *("http://app.example.com", "https://app.example.com:443", "https://APP.example.com"),
            *("https://xapp.example.com", "https://app.example.co", "file://app.example.com"),
        ],
    )
    async def test_no_variant_of_an_origin_is_that_origin(
        self, origin: str, aloof_api: httpx.AsyncClient
    ) -> None:
        sent = {b"Origin": origin.encode().strip(), b"Access-Control-Request-Method": b"POST"}
        for method in ("GET", "OPTIONS"):
            headers = (await aloof_api.request(method, "/leads", headers=sent)).headers
            allowed = headers.get("Access-Control-Allow-Origin")
            # Spaces around a header's value are none of its own.
            assert allowed == (ORIGIN if origin.strip() == ORIGIN else None)


async def test_every_refusal_of_every_route_is_hardened(api_settings: ApiSettings) -> None:
    """Driven by the table of routes, so that a new one is covered."""
    settings = replace(api_settings, limits=LimitSettings(rate_limit=None))
    async with running_api(settings) as api:
        for endpoint in ENDPOINTS:
            path = endpoint.path.replace("{id}", str(uuid4())).replace("{name}", "none.js")
            answer = await api.request(endpoint.method, path)
            headers = answer.headers
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert headers["Referrer-Policy"] == "no-referrer", path
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path
            assert headers["Strict-Transport-Security"].startswith("max-age="), path
            assert headers["Server"] == "leads", path
