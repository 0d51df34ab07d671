"""Sign-up and log-in with a project of their own: an auth server that keeps accounts."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from services.api.settings import ApiSettings
from tests.support.api import running_api
from tests.support.auth_project import Project, running_project

CREDENTIALS = {"email": "ada@example.com", "password": "correct horse"}


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
    project: Project, api_settings: ApiSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = project.settings(api_settings, supabase_key=SecretStr(project.anon_key))
    async with running_api(settings) as client:
        response = await client.post("/authentication/signup", json=CREDENTIALS)
    assert (response.status_code, response.json()["code"]) == (503, "auth-unavailable")
    assert "key" not in response.text.lower().replace('"', "")
    assert "SUPABASE_KEY" in capsys.readouterr().out
