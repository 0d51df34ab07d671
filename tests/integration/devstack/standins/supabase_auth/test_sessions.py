"""Supabase Auth's sessions: refreshed, ended, outliving a restart."""

import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import OctKey
from pydantic import SecretStr
from supabase_auth.errors import AuthApiError, AuthInvalidJwtError
from supabase_auth.types import Session

from devstack.standins.supabase_auth import SupabaseAuthSettings
from tests.integration.devstack.standins.conftest import OpenProject, Project
from tests.integration.devstack.standins.supabase_auth.conftest import (
    code_of,
    log_in,
    refresh,
    sign_up,
)


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


async def test_the_keys_of_a_project_change_as_in_the_dashboard(
    open_project: OpenProject, tmp_path: Path
) -> None:
    secret = SecretStr("a secret of at least thirty-two characters")

    async def change(what: str) -> None:
        assert (await project.http.post(f"{project.url}/_control/keys/{what}")).status_code == 200

    async def published() -> int:
        url = f"{project.url}/auth/v1/.well-known/jwks.json"
        return len((await project.http.get(url)).json()["keys"])

    async with open_project(SupabaseAuthSettings(data_dir=tmp_path, jwt_secret=secret)) as project:
        first = await sign_up(project)
        await change("add-standby")
        assert await published() == 1
        second = (await log_in(project)).session
        assert second is not None
        await change("rotate")
        third = (await log_in(project)).session
        assert third is not None
        sessions = (first, second, third)
        headers = [jws.extract_compact(one.access_token.encode()).headers() for one in sessions]
        assert [header["alg"] for header in headers] == ["HS256", "HS256", "ES256"]
        for session in sessions:
            assert await project.client().get_user(session.access_token) is not None
        await change("revoke")
        assert await project.client().get_user(third.access_token) is not None
        with pytest.raises(AuthApiError) as caught:
            await project.client().get_user(first.access_token)
        assert code_of(caught) == (403, "bad_jwt")


@pytest.mark.parametrize("token", ["", "abcdefghijkl", "nonsense", "v1.MXc1cmVmcmVzaA"])
async def test_a_refresh_token_of_no_known_form_is_not_even_looked_for(
    project: Project, token: str
) -> None:
    answer = await project.http.post(
        f"{project.url}/auth/v1/token?grant_type=refresh_token",
        json={"refresh_token": token},
        headers={"apikey": project.anon_key},
    )
    known_form = token == "abcdefghijkl"
    code = "refresh_token_not_found" if known_form else "validation_failed"
    assert (answer.status_code, answer.json()["error_code"]) == (400, code)


async def test_an_administrator_bans_and_deletes(project: Project) -> None:
    session, admin = await sign_up(project), project.admin().admin
    await admin.update_user_by_id(session.user.id, {"ban_duration": "1h30m"})
    for ask in (
        log_in(project),
        refresh(project, session.refresh_token),
        project.client().get_user(session.access_token),
        project.client().admin.sign_out(session.access_token, "local"),
    ):
        with pytest.raises(AuthApiError) as caught:
            await ask
        assert caught.value.code == "user_banned"
    await admin.update_user_by_id(session.user.id, {"ban_duration": "none"})
    assert (await log_in(project)).session is not None
    await admin.delete_user(session.user.id)
    with pytest.raises(AuthApiError) as caught:
        await project.client().get_user(session.access_token)
    assert code_of(caught) == (403, "user_not_found")
