"""Supabase Auth, driven by Supabase's own client library."""

import asyncio
import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import supabase
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey
from pydantic import SecretStr, ValidationError
from supabase_auth.errors import (
    AuthApiError,
    AuthError,
    AuthInvalidJwtError,
    AuthRetryableError,
    AuthWeakPasswordError,
)
from supabase_auth.types import AuthResponse, Session

from devstack.standins.supabase_auth import SupabaseAuthSettings
from tests.integration.standins.conftest import OpenProject, Project

EMAIL, PASSWORD = "ada@example.com", "correct horse"


async def sign_up(project: Project) -> Session:
    answer = await project.client().sign_up({"email": EMAIL, "password": PASSWORD})
    assert answer.session is not None
    return answer.session


async def log_in(project: Project, password: str = PASSWORD) -> AuthResponse:
    return await project.client().sign_in_with_password({"email": EMAIL, "password": password})


async def refresh(project: Project, token: str) -> Session:
    answer = await project.client().refresh_session(token)
    assert answer.session is not None
    return answer.session


def code_of(caught: pytest.ExceptionInfo[AuthError]) -> tuple[int, str | None]:
    assert isinstance(caught.value, AuthApiError)
    return caught.value.status, caught.value.code


async def test_signs_up_and_logs_in(project: Project) -> None:
    created = await project.client().sign_up(
        {"email": "Ada@Example.com", "password": PASSWORD, "options": {"data": {"team": "x"}}}
    )
    assert created.user is not None
    assert created.user.email == EMAIL
    assert created.user.email_confirmed_at is not None
    assert created.user.user_metadata["team"] == "x"
    assert created.user.identities is not None
    assert created.user.identities[0].provider == "email"

    logged_in = await log_in(project)
    assert logged_in.session is not None
    assert logged_in.session.token_type == "bearer"
    assert logged_in.session.expires_in == 3600
    assert logged_in.user is not None
    assert logged_in.user.id == created.user.id
    assert logged_in.user.last_sign_in_at is not None


async def test_tokens_carry_supabases_claims_and_verify_with_the_published_keys(
    project: Project,
) -> None:
    session = await sign_up(project)
    # Without an API key: this path is public.
    published = await project.http.get(f"{project.url}/auth/v1/.well-known/jwks.json")
    token = jwt.decode(
        session.access_token, KeySet.import_key_set(published.json()), algorithms=["ES256"]
    )

    assert token.header["alg"] == "ES256"
    assert token.header["typ"] == "JWT"
    assert token.header["kid"] == published.json()["keys"][0]["kid"]
    assert "d" not in published.json()["keys"][0]
    claims = token.claims
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["amr"][0]["method"] == "password"
    expected = {
        "iss": f"{project.url}/auth/v1",
        "sub": session.user.id,
        "aud": "authenticated",
        "email": EMAIL,
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "role": "authenticated",
        "aal": "aal1",
        "is_anonymous": False,
    }
    assert {name: claims[name] for name in expected} == expected


async def test_the_library_verifies_a_token_by_itself(project: Project) -> None:
    session = await sign_up(project)
    answer = await project.client().get_claims(session.access_token)
    assert answer is not None
    assert answer["claims"].get("sub") == session.user.id


async def test_shows_the_user_of_a_token(project: Project) -> None:
    session = await sign_up(project)
    answer = await project.client().get_user(session.access_token)
    assert answer is not None
    assert answer.user.id == session.user.id


async def test_an_administrator_creates_and_lists_users(project: Project) -> None:
    admin = project.admin().admin
    created = await admin.create_user(
        {"email": EMAIL, "password": PASSWORD, "email_confirm": True, "user_metadata": {"a": 1}}
    )
    assert created.user.email_confirmed_at is not None
    assert created.user.user_metadata == {"a": 1, "email_verified": True}
    assert [user.email for user in await admin.list_users()] == [EMAIL]
    assert await admin.list_users(page=2, per_page=1) == []
    assert (await log_in(project)).session is not None

    with pytest.raises(AuthApiError) as caught:
        await admin.create_user({"email": EMAIL.upper(), "password": PASSWORD})
    assert code_of(caught) == (422, "email_exists")


async def test_the_supabase_client_works_with_both_keys(project: Project) -> None:
    options = supabase.AsyncClientOptions(httpx_client=project.http, auto_refresh_token=False)
    admin = await supabase.acreate_client(project.url, project.service_key, options)
    await admin.auth.admin.create_user(
        {"email": EMAIL, "password": PASSWORD, "email_confirm": True}
    )
    public = await supabase.acreate_client(project.url, project.anon_key, options)
    answer = await public.auth.sign_in_with_password({"email": EMAIL, "password": PASSWORD})
    assert answer.session is not None
    await public.auth.sign_out()


async def test_an_unconfirmed_user_cannot_log_in(project: Project) -> None:
    await project.admin().admin.create_user({"email": EMAIL, "password": PASSWORD})
    with pytest.raises(AuthApiError) as caught:
        await log_in(project)
    assert code_of(caught) == (400, "email_not_confirmed")


async def test_without_autoconfirm_a_sign_up_does_not_tell_whether_an_address_is_taken(
    open_project: OpenProject, tmp_path: Path
) -> None:
    settings = SupabaseAuthSettings(data_dir=tmp_path, autoconfirm=False)
    async with open_project(settings) as project:
        await project.admin().admin.create_user(
            {"email": EMAIL, "password": PASSWORD, "email_confirm": True}
        )
        taken = await project.client().sign_up({"email": EMAIL, "password": "another one"})
        fresh = await project.client().sign_up({"email": "b@example.com", "password": PASSWORD})
        assert taken.session is None
        assert fresh.session is None
        assert (await log_in(project)).session is not None


@pytest.mark.parametrize("password", ["wrong horse", ""])
async def test_a_wrong_password_and_an_unknown_user_are_answered_alike(
    project: Project, password: str
) -> None:
    await sign_up(project)
    answers = [
        await project.http.post(
            f"{project.url}/auth/v1/token?grant_type=password",
            json={"email": email, "password": password},
            headers={"apikey": project.anon_key},
        )
        for email in (EMAIL, "nobody@example.com")
    ]
    assert {answer.status_code for answer in answers} == {400}
    assert {answer.headers["x-sb-error-code"] for answer in answers} == {"invalid_credentials"}
    # The shape of the first API version, as no version was asked for.
    assert [answer.json() for answer in answers] == 2 * [
        {"code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials"}
    ]


async def test_an_error_has_the_shape_of_the_version_asked_for(project: Project) -> None:
    answer = await project.http.post(
        f"{project.url}/auth/v1/token?grant_type=password",
        json={"email": EMAIL, "password": PASSWORD},
        headers={"apikey": project.anon_key, "X-Supabase-Api-Version": "2024-01-01"},
    )
    assert answer.headers["X-Supabase-Api-Version"] == "2024-01-01"
    assert answer.json() == {"code": "invalid_credentials", "message": "Invalid login credentials"}


async def test_refusals_are_the_librarys_errors(project: Project) -> None:
    await sign_up(project)
    with pytest.raises(AuthApiError) as caught:
        await sign_up(project)
    assert code_of(caught) == (422, "user_already_exists")

    with pytest.raises(AuthApiError) as caught:
        await log_in(project, "wrong horse")
    assert code_of(caught) == (400, "invalid_credentials")

    with pytest.raises(AuthWeakPasswordError) as weak:
        await project.client().sign_up({"email": "b@example.com", "password": "short"})
    assert weak.value.reasons == ["length"]
    assert weak.value.message == "Password should be at least 6 characters."

    for email, password in (("no address", PASSWORD), ("b@example.com", "x" * 73)):
        with pytest.raises(AuthApiError) as caught:
            await project.client().sign_up({"email": email, "password": password})
        assert code_of(caught) == (400, "validation_failed")


async def test_only_the_service_key_is_an_administrators(project: Project) -> None:
    session = await sign_up(project)
    as_user = project.client(key=project.service_key, token=session.access_token)
    for client in (project.client(), as_user):
        with pytest.raises(AuthApiError) as caught:
            await client.admin.create_user({"email": "b@example.com", "password": PASSWORD})
        assert code_of(caught) == (403, "not_admin")

    answer = await project.http.get(
        f"{project.url}/auth/v1/admin/users",
        headers={"apikey": project.service_key, "Authorization": "Basic abc"},
    )
    assert (answer.status_code, answer.json()["error_code"]) == (401, "no_authorization")


@pytest.mark.parametrize(
    ("headers", "message"),
    [({}, "No API key found in request"), ({"apikey": "sb_secret_guess"}, "Invalid API key")],
)
async def test_a_request_without_one_of_the_projects_keys_is_turned_away(
    project: Project, headers: dict[str, str], message: str
) -> None:
    answer = await project.http.get(f"{project.url}/auth/v1/settings", headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (401, message)


async def test_a_refresh_rotates_the_token(project: Project) -> None:
    first = await sign_up(project)
    second = await refresh(project, first.refresh_token)
    assert second.refresh_token != first.refresh_token
    # The answer may have been lost: the same token is good for the same successor.
    assert (await refresh(project, first.refresh_token)).refresh_token == second.refresh_token
    third = await refresh(project, second.refresh_token)
    assert third.refresh_token not in {first.refresh_token, second.refresh_token}


async def test_a_refresh_token_used_twice_ends_the_session_after_the_reuse_interval(
    open_project: OpenProject, tmp_path: Path
) -> None:
    settings = SupabaseAuthSettings(
        data_dir=tmp_path, refresh_token_reuse_interval=timedelta(microseconds=1)
    )
    async with open_project(settings) as project:
        first = await sign_up(project)
        second = await refresh(project, first.refresh_token)
        third = await refresh(project, second.refresh_token)
        for stolen in (first, third):
            with pytest.raises(AuthApiError) as caught:
                await refresh(project, stolen.refresh_token)
            assert code_of(caught) == (400, "refresh_token_already_used")


async def test_an_unknown_refresh_token_is_refused(project: Project) -> None:
    with pytest.raises(AuthApiError) as caught:
        await refresh(project, "abcdefghijkl")
    assert code_of(caught) == (400, "refresh_token_not_found")


@pytest.mark.parametrize(
    ("scope", "survivors"), [("global", set[str]()), ("local", {"other"}), ("others", {"this"})]
)
async def test_logging_out_ends_the_sessions_in_its_scope(
    project: Project, scope: Any, survivors: set[str]
) -> None:
    other, this = await sign_up(project), (await log_in(project)).session
    assert this is not None
    await project.client().admin.sign_out(this.access_token, scope)

    for name, session in (("other", other), ("this", this)):
        if name in survivors:
            assert await project.client().get_user(session.access_token) is not None
            continue
        with pytest.raises(AuthApiError) as caught:
            await project.client().get_user(session.access_token)
        assert code_of(caught) == (403, "session_not_found")


async def test_forged_and_expired_tokens_are_refused(
    open_project: OpenProject, tmp_path: Path
) -> None:
    settings = SupabaseAuthSettings(data_dir=tmp_path, jwt_exp=timedelta(microseconds=1))
    async with open_project(settings) as project:
        expired = (await sign_up(project)).access_token
        forged = jwt.encode({"alg": "HS256"}, {"sub": "x"}, OctKey.generate_key(256))
        for token in (expired, forged, expired[:-3] + "AAA", "a.b.c"):
            with pytest.raises(AuthApiError) as caught:
                await project.client().get_user(token)
            assert code_of(caught) == (403, "bad_jwt")


async def test_a_legacy_project_signs_with_its_secret_and_publishes_no_keys(
    open_project: OpenProject, tmp_path: Path
) -> None:
    secret = "a secret of at least thirty-two characters"
    settings = SupabaseAuthSettings(data_dir=tmp_path, jwt_secret=SecretStr(secret))
    async with open_project(settings) as project:
        session = await sign_up(project)
        key = OctKey.import_key(secret)
        assert jwt.decode(session.access_token, key).header["alg"] == "HS256"
        assert jwt.decode(project.service_key, key).claims["role"] == "service_role"
        assert len(await project.admin().admin.list_users()) == 1
        assert (await project.client().get_user(session.access_token)) is not None
        published = await project.http.get(f"{project.url}/auth/v1/.well-known/jwks.json")
        assert published.json() == {"keys": []}
        with pytest.raises(AuthInvalidJwtError):
            await project.client().get_claims(_with_kid_of_another_algorithm(session))


def _with_kid_of_another_algorithm(session: Session) -> str:
    """Makes the library look at the published keys, of which there are none."""
    _, payload, signature = session.access_token.split(".")
    return f"eyJhbGciOiJFUzI1NiIsImtpZCI6IngifQ.{payload}.{signature}"


async def test_accounts_sessions_and_keys_outlive_a_restart(
    open_project: OpenProject, tmp_path: Path
) -> None:
    settings = SupabaseAuthSettings(data_dir=tmp_path)
    async with open_project(settings) as project:
        session = await sign_up(project)
        keys = (project.service_key, project.anon_key)
    async with open_project(settings) as project:
        assert (project.service_key, project.anon_key) == keys
        assert keys[0].startswith("sb_secret_")
        assert keys[1].startswith("sb_publishable_")
        assert (await log_in(project)).session is not None
        assert (await project.client().get_user(session.access_token)) is not None
        assert (await refresh(project, session.refresh_token)).user.id == session.user.id
    secrets = [tmp_path / name for name in ("service_key", "signing_key.json", "accounts.sqlite3")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


async def test_of_racing_sign_ups_one_wins(project: Project) -> None:
    answers = await asyncio.gather(*(sign_up(project) for _ in range(5)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, AuthApiError)]
    assert [error.code for error in refused] == 4 * ["user_already_exists"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_json"),
        (b"[]", "bad_json"),
        (b'{"email": 1, "password": "x"}', "bad_json"),
        (b"{}", "anonymous_provider_disabled"),
        (
            b'{"email": null, "phone": "1234567", "password": "long enough"}',
            "phone_provider_disabled",
        ),
    ],
)
async def test_malformed_sign_ups_are_refused(project: Project, body: bytes, code: str) -> None:
    answer = await project.http.post(
        f"{project.url}/auth/v1/signup", content=body, headers={"apikey": project.anon_key}
    )
    assert answer.status_code in {400, 422}
    assert answer.json()["error_code"] == code


@pytest.mark.parametrize(
    ("faults", "error", "code"),
    [
        ({"status": 429}, AuthApiError, "over_request_rate_limit"),
        ({"status": 500}, AuthApiError, "unexpected_failure"),
        ({"status": 503}, AuthRetryableError, None),
        ({"status": 504}, AuthRetryableError, None),
        ({"error_rate": 1}, AuthApiError, "unexpected_failure"),
    ],
)
async def test_faults_reach_the_library_as_its_errors(
    project: Project, faults: dict[str, object], error: type[AuthError], code: str | None
) -> None:
    await project.http.post(f"{project.url}/_control", json=faults)
    with pytest.raises(error) as caught:
        await log_in(project)
    assert caught.value.code == code
    await project.http.delete(f"{project.url}/_control")
    assert (await sign_up(project)).user.email == EMAIL


async def test_a_fault_can_be_kept_to_one_path(project: Project) -> None:
    faults = {"status": 503, "path_prefix": "/auth/v1/token"}
    await project.http.post(f"{project.url}/_control", content=json.dumps(faults))
    await sign_up(project)
    with pytest.raises(AuthRetryableError):
        await log_in(project)


async def test_garbage_breaks_the_library(project: Project) -> None:
    await project.http.post(f"{project.url}/_control", json={"garbage": True})
    with pytest.raises(ValidationError):
        await log_in(project)
