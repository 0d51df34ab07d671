"""Sign-up and log-in with a project of their own: an auth server that keeps accounts."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from devstack.standins.supabase_auth.settings import HookRefusal
from services.api.auth.accounts import Accounts, Credentials
from services.api.settings import ApiSettings
from services.api.web.problems import Problem
from tests.support.api import running_api
from tests.support.auth_project import Project, running_project

CREDENTIALS = {"email": "ada@example.com", "password": "correct horse"}
GIVEN = Credentials(**CREDENTIALS)
JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=["keys", "secret"])
async def project(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Project]:
    """Yield a project that signs with published keys, or with a secret unknown to the API."""
    secret = SecretStr("a-shared-secret-of-at-least-32-characters")
    jwt_secret = secret if request.param == "secret" else None
    async with running_project(tmp_path, jwt_secret=jwt_secret) as project:
        yield project


@pytest.fixture
async def anonymous(
    project: Project, api_settings: ApiSettings
) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client that is not signed in."""
    async with running_api(project.settings(api_settings)) as client:
        yield client


async def test_who_signs_up_can_log_in_and_read(anonymous: httpx.AsyncClient) -> None:
    signed_up = await anonymous.post("/authentication/signup", json=CREDENTIALS)
    assert (signed_up.status_code, signed_up.json()) == (201, {"email": "ada@example.com"})

    logged_in = await anonymous.post("/authentication/login", json=CREDENTIALS)
    session = logged_in.json()
    assert logged_in.status_code == 200
    assert session.keys() == {"access_token", "refresh_token", "expires_in", "token_type"}
    assert (session["expires_in"], session["token_type"]) == (3600, "bearer")
    assert logged_in.headers["Cache-Control"] == "no-store"

    bearer = {"Authorization": f"Bearer {session['access_token']}"}
    assert (await anonymous.get("/leads", headers=bearer)).status_code == 200
    assert (await anonymous.get("/leads")).status_code == 401
    refresh_token = {"Authorization": f"Bearer {session['refresh_token']}"}
    assert (await anonymous.get("/leads", headers=refresh_token)).status_code == 401


async def test_an_address_is_taken_once(anonymous: httpx.AsyncClient) -> None:
    await anonymous.post("/authentication/signup", json=CREDENTIALS)
    again = await anonymous.post(
        "/authentication/signup", json=CREDENTIALS | {"email": "ADA@example.com"}
    )
    assert (again.status_code, again.json()["code"]) == (409, "email-taken")


async def test_a_wrong_password_and_an_unknown_user_look_the_same(
    anonymous: httpx.AsyncClient,
) -> None:
    await anonymous.post("/authentication/signup", json=CREDENTIALS)
    wrong, unknown = [
        await anonymous.post("/authentication/login", json=CREDENTIALS | change)
        for change in ({"password": "wrong horse"}, {"email": "bob@example.com"})
    ]
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert wrong.json()["code"] == "invalid-credentials"


async def test_sessions_of_two_users_do_not_mix(anonymous: httpx.AsyncClient) -> None:
    users = [CREDENTIALS | {"email": f"user{number}@example.com"} for number in range(4)]
    for user in users:
        await anonymous.post("/authentication/signup", json=user)
    sessions = await asyncio.gather(
        *(anonymous.post("/authentication/login", json=user) for user in users for _ in range(3))
    )
    tokens = [session.json()["access_token"] for session in sessions]
    assert len(set(tokens)) == len(tokens)
    await anonymous.post("/authentication/signup", json=CREDENTIALS)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": ""}, "email"),
        ({"password": "short"}, "password"),
        ({"password": ""}, "password"),
        ({"password": "x" * 73}, "password"),
        ({"password": "\u00e9" * 37}, "password"),
        ({"password": "correct\u0000horse"}, "password"),
        ({"password": 12345678}, "password"),
        ({"role": "service_role"}, "role"),
    ],
)
async def test_a_senseless_sign_up_is_explained(
    change: dict[str, object], field: str, anonymous: httpx.AsyncClient
) -> None:
    response = await anonymous.post("/authentication/signup", json=CREDENTIALS | change)
    assert response.status_code == 400
    assert list(response.json()["errors"]) == [field]


async def test_short_passwords_can_be_allowed(project: Project, api_settings: ApiSettings) -> None:
    settings = project.settings(api_settings, password_min_length=6)
    async with running_api(settings) as client:
        response = await client.post(
            "/authentication/signup", json=CREDENTIALS | {"password": "sixsix"}
        )
        assert response.status_code == 201


async def test_sign_up_can_be_closed(project: Project, api_settings: ApiSettings) -> None:
    async with running_api(project.settings(api_settings, signup_mode="closed")) as client:
        response = await client.post("/authentication/signup", json=CREDENTIALS)
        assert (response.status_code, response.json()["code"]) == (403, "sign-up-closed")


async def test_sign_up_can_be_left_to_the_project(
    project: Project, api_settings: ApiSettings
) -> None:
    settings = project.settings(
        api_settings, signup_confirmation="email", supabase_key=SecretStr(project.anon_key)
    )
    async with running_api(settings) as client:
        assert (await client.post("/authentication/signup", json=CREDENTIALS)).status_code == 201


async def test_a_key_that_may_not_make_accounts_is_the_operators_matter(
    tmp_path: Path, api_settings: ApiSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_project(tmp_path, autoconfirm=False) as project:
        settings = project.settings(api_settings, supabase_key=SecretStr(project.anon_key))
        async with running_api(settings) as client:
            response = await client.post("/authentication/signup", json=CREDENTIALS)
    assert (response.status_code, response.json()["code"]) == (503, "auth-unavailable")
    assert "key" not in response.text.lower().replace('"', "")
    assert "SUPABASE_KEY" in capsys.readouterr().out


class TestProjectRules:
    """The default sign-up keeps to what the project asks of its users, mail or no mail."""

    @pytest.fixture(params=["with autoconfirm", "with mails"])
    def autoconfirm(self, request: pytest.FixtureRequest) -> bool:
        return str(request.param) == "with autoconfirm"

    @pytest.mark.parametrize(
        ("rules", "code"),
        [
            ({"signup_enabled": False}, "sign-up-closed"),
            ({"email_enabled": False}, "sign-up-closed"),
            ({"password_min_length": 20}, "validation-failed"),
            ({"password_required_characters": ("0123456789",)}, "validation-failed"),
            ({"hooks": {"before-user-created": HookRefusal(status=403)}}, "auth-refused"),
            ({"hooks": {"before-user-created": HookRefusal(status=401)}}, "auth-refused"),
            (
                {"hooks": {"before-user-created": HookRefusal(status=422, code="hook_timeout")}},
                "auth-unavailable",
            ),
        ],
    )
    async def test_who_may_not_sign_up_there_may_not_here(
        self,
        rules: Any,
        code: str,
        autoconfirm: bool,  # noqa: FBT001 (a fixture)
        tmp_path: Path,
    ) -> None:
        async with (
            running_project(tmp_path, autoconfirm=autoconfirm, **rules) as project,
            httpx.AsyncClient() as http,
        ):
            with pytest.raises(Problem) as raised:
                await accounts_of(project, http).create_confirmed(GIVEN)
        assert raised.value.code == code
        if code == "auth-refused":
            assert "Not welcome here" in raised.value.detail

    async def test_an_account_of_a_project_with_mails_is_confirmed_without_one(
        self, tmp_path: Path, api_settings: ApiSettings
    ) -> None:
        async with (
            running_project(tmp_path, autoconfirm=False) as project,
            running_api(project.settings(api_settings)) as client,
        ):
            signed_up = await client.post("/authentication/signup", json=CREDENTIALS)
            assert (signed_up.status_code, signed_up.json()) == (201, {"email": GIVEN.email})
            assert (await client.post("/authentication/login", json=CREDENTIALS)).status_code == 200
            again = await client.post("/authentication/signup", json=CREDENTIALS)
            assert (again.status_code, again.json()["code"]) == (409, "email-taken")

    async def test_a_sign_up_that_an_outage_cut_off_is_finished_later_and_by_nobody_else(
        self, tmp_path: Path
    ) -> None:
        async with (
            running_project(tmp_path, autoconfirm=False) as project,
            httpx.AsyncClient() as http,
        ):
            accounts = accounts_of(project, http)
            async with project.control.misbehaving(status=503, path_prefix="/auth/v1/admin/users"):
                with pytest.raises(Problem) as raised:
                    await accounts.create_confirmed(GIVEN)
                assert raised.value.code == "auth-unavailable"
            with pytest.raises(Problem) as raised:
                await accounts.create_confirmed(replace(GIVEN, password="another one"))
            assert raised.value.code == "email-taken"
            assert await accounts.create_confirmed(GIVEN) == GIVEN.email
            assert (await accounts.log_in(GIVEN)).token_type == "bearer"


def accounts_of(project: Project, http: httpx.AsyncClient, *, key: str | None = None) -> Accounts:
    return Accounts(
        http,
        auth_url=f"{project.url}/auth/v1",
        key=key or project.service_key,
        timeout=timedelta(seconds=5),
    )


async def test_a_captcha_that_was_solved_is_passed_on(
    tmp_path: Path, api_settings: ApiSettings
) -> None:
    solved = {"captcha_token": "solved"}
    async with running_project(tmp_path, **solved) as project:
        key = SecretStr(project.anon_key)
        settings = project.settings(api_settings, signup_confirmation="email", supabase_key=key)
        async with running_api(settings) as client:
            for path, status in (("signup", 201), ("login", 200)):
                for given, expected in (({}, 400), ({"captcha_token": "guessed"}, 400)):
                    refused = await client.post(f"/authentication/{path}", json=CREDENTIALS | given)
                    assert (refused.status_code, refused.json()["code"]) == (
                        expected,
                        "captcha-failed",
                    )
                answer = await client.post(f"/authentication/{path}", json=CREDENTIALS | solved)
                assert answer.status_code == status


async def test_every_account_of_the_project_can_log_in(
    tmp_path: Path, api_settings: ApiSettings
) -> None:
    """Log-in has no rules of its own for addresses: the account may have been made elsewhere."""
    emails = (
        "x@corp.local",
        "x@intranet.test",
        "ada@xn--bcher-kva.example",
        f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.example",
        "o'brien+crm@sub.example.co.uk",
    )
    async with (
        running_project(tmp_path) as project,
        running_api(project.settings(api_settings)) as client,
    ):
        await make_users(project, emails)
        for email in (*emails, "ADA@B\u00fccher.example", f" {emails[0]} "):
            answer = await client.post("/authentication/login", json=CREDENTIALS | {"email": email})
            assert answer.status_code == 200, email
        signed_up = await client.post(
            "/authentication/signup", json=CREDENTIALS | {"email": "new@b\u00fccher.example"}
        )
        assert signed_up.json() == {"email": "new@xn--bcher-kva.example"}


async def make_users(project: Project, emails: Iterable[str]) -> None:
    async with httpx.AsyncClient(headers={"apikey": project.service_key}) as http:
        for email in emails:
            body = {**CREDENTIALS, "email": email, "email_confirm": True}
            answer = await http.post(f"{project.url}/auth/v1/admin/users", json=body)
            assert answer.status_code == 200, answer.text


async def test_text_that_cannot_be_sent_on_is_refused(anonymous: httpx.AsyncClient) -> None:
    for path, body in (
        ("login", CREDENTIALS | {"password": "\ud800"}),
        ("login", CREDENTIALS | {"email": "a\udfff@example.com"}),
        ("login", CREDENTIALS | {"email": "a\x00@example.com"}),
        ("login", CREDENTIALS | {"captcha_token": "\ud83d"}),
        ("signup", CREDENTIALS | {"password": "12345678\ud800"}),
        ("signup", CREDENTIALS | {"email": "a\udfff@example.com"}),
        ("refresh", {"refresh_token": "\ud800"}),
        ("refresh", {"refresh_token": "a\x00"}),
    ):
        answer = await anonymous.post(
            f"/authentication/{path}", content=json.dumps(body), headers=JSON
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "validation-failed"), body
