"""Supabase Auth's accounts and tokens, driven by Supabase's own client library."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import supabase
from joserfc import jwt
from joserfc.jwk import KeySet
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError

from devstack.standins.supabase_auth import SupabaseAuthSettings
from devstack.standins.supabase_auth.settings import HookRefusal
from devstack.standins.supabase_auth.users import is_password
from tests.integration.devstack.standins.conftest import OpenProject, Project
from tests.integration.devstack.standins.supabase_auth.conftest import (
    EMAIL,
    PASSWORD,
    code_of,
    log_in,
    sign_up,
)


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


@pytest.mark.parametrize(
    ("hashed", "cost"),
    [("{salt}${digest}", 2**14), ("{salt}${digest}$16384", 2**14), ("{salt}${digest}$64", 64)],
)
async def test_a_hash_is_of_the_cost_that_it_was_made_with(hashed: str, cost: int) -> None:
    salt = b"salt"
    digest = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=cost, r=8, p=1)
    kept = hashed.format(salt=salt.hex(), digest=digest.hex())
    with ThreadPoolExecutor(1) as executor:
        assert await is_password(PASSWORD, kept, executor)
        assert not await is_password("wrong horse", kept, executor)


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


LETTERS_AND_DIGITS = ("abcdefghijklmnopqrstuvwxyz", "0123456789")
HOOK = HookRefusal(status=403, message="Not from this domain")


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"password_required_characters": LETTERS_AND_DIGITS}, (422, "weak_password")),
        ({"captcha_token": "solved"}, (400, "captcha_failed")),
        ({"email_enabled": False}, (400, "email_provider_disabled")),
        ({"signup_enabled": False}, (422, "signup_disabled")),
        ({"hooks": {"before-user-created": HOOK}}, (403, "unknown")),
    ],
)
async def test_a_project_has_rules_of_its_own(
    open_project: OpenProject, tmp_path: Path, changes: Any, refused: tuple[int, str]
) -> None:
    async with open_project(SupabaseAuthSettings(data_dir=tmp_path, **changes)) as project:
        answer = await project.http.post(
            f"{project.url}/auth/v1/signup",
            json={"email": EMAIL, "password": PASSWORD},
            headers={"apikey": project.anon_key},
        )
        assert (answer.status_code, answer.json()["error_code"]) == refused


async def test_a_captcha_that_was_solved_lets_in(open_project: OpenProject, tmp_path: Path) -> None:
    settings = SupabaseAuthSettings(data_dir=tmp_path, captcha_token="solved")
    async with open_project(settings) as project:
        await project.client().sign_up(
            {"email": EMAIL, "password": PASSWORD, "options": {"captcha_token": "solved"}}
        )
        # An administrator need not solve one.
        admin = await project.admin().sign_in_with_password({"email": EMAIL, "password": PASSWORD})
        assert admin.session is not None


async def test_addresses_are_limited_as_the_owner_of_the_secret_key_names_them(
    open_project: OpenProject, tmp_path: Path
) -> None:
    async def log_in_from(address: str, key: str) -> int:
        answer = await project.http.post(
            f"{project.url}/auth/v1/token?grant_type=password",
            json={"email": EMAIL, "password": "wrong"},
            headers={"apikey": key, "Sb-Forwarded-For": address},
        )
        return answer.status_code

    async with open_project(SupabaseAuthSettings(data_dir=tmp_path, rate_limit=2)) as project:
        service, anon = project.service_key, project.anon_key
        assert [await log_in_from("192.0.2.1", service) for _ in range(3)] == [400, 400, 429]
        assert await log_in_from("192.0.2.2", service) == 400
        assert [await log_in_from(f"192.0.2.{n}", anon) for n in range(3)] == [400, 400, 429]


async def test_a_link_makes_an_account_that_waits_for_its_confirmation(
    open_project: OpenProject, tmp_path: Path
) -> None:
    settings = SupabaseAuthSettings(data_dir=tmp_path, autoconfirm=False)
    async with open_project(settings) as project:
        admin = project.admin().admin
        link = await admin.generate_link({"type": "signup", "email": EMAIL, "password": PASSWORD})
        assert link.user.email_confirmed_at is None
        again = await admin.generate_link({"type": "signup", "email": EMAIL, "password": "another"})
        assert again.user.id == link.user.id
        confirmed = await admin.update_user_by_id(link.user.id, {"email_confirm": True})
        assert confirmed.user.email_confirmed_at is not None
        assert (await log_in(project)).session is not None
        with pytest.raises(AuthApiError) as caught:
            await admin.generate_link({"type": "signup", "email": EMAIL, "password": PASSWORD})
        assert code_of(caught) == (422, "email_exists")
