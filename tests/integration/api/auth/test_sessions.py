"""A session from its log-in to its log-out, and who may have one."""

import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from devstack.free_ports import free_port
from services.api.auth.tokens import unverified_claims
from services.api.settings import ApiSettings
from shared.settings import StreamsSettings
from tests.support.api import running_api
from tests.support.auth_project import Project, running_project
from tests.support.eventually import eventually

CREDENTIALS = {"email": "ada@example.com", "password": "correct horse battery"}


@pytest.fixture
async def project(tmp_path: Path) -> AsyncGenerator[Project]:
    async with running_project(
        tmp_path, password_min_length=4, refresh_token_reuse_interval=timedelta(milliseconds=1)
    ) as project:
        yield project


@pytest.fixture
async def api(project: Project, api_settings: ApiSettings) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client that is not signed in, of an API with one account."""
    async with running_api(project.settings(api_settings)) as client:
        assert (await client.post("/authentication/signup", json=CREDENTIALS)).status_code == 201
        yield client


async def log_in(api: httpx.AsyncClient) -> dict[str, Any]:
    answer = await api.post("/authentication/login", json=CREDENTIALS)
    assert answer.status_code == 200
    session: dict[str, Any] = answer.json()
    return session


def bearer(session: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {session['access_token']}"}


async def refresh(api: httpx.AsyncClient, token: str) -> httpx.Response:
    return await api.post("/authentication/refresh", json={"refresh_token": token})


class TestRefresh:
    async def test_a_session_goes_on_with_new_tokens(self, api: httpx.AsyncClient) -> None:
        session = await log_in(api)
        answer = await refresh(api, session["refresh_token"])
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        fresh = answer.json()
        assert fresh.keys() == session.keys()
        assert fresh["refresh_token"] != session["refresh_token"]
        assert (await api.get("/leads", headers=bearer(fresh))).status_code == 200

    async def test_a_refresh_token_serves_once(self, api: httpx.AsyncClient) -> None:
        first = await log_in(api)
        second = (await refresh(api, first["refresh_token"])).json()
        third = (await refresh(api, second["refresh_token"])).json()
        reused = await refresh(api, first["refresh_token"])
        assert (reused.status_code, reused.json()["code"]) == (401, "session-over")
        # It may have been stolen: the whole session is over.
        assert (await refresh(api, third["refresh_token"])).status_code == 401

    @pytest.mark.parametrize(
        "token", ["nonsense", "abcdefghijkl", "x" * 1000, "' OR 1=1 --", "\u00e9\u4e2d", "v1.MXc1"]
    )
    async def test_an_unknown_refresh_token_is_refused(
        self, token: str, api: httpx.AsyncClient
    ) -> None:
        answer = await refresh(api, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "session-over")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert token not in answer.text

    @pytest.mark.parametrize(
        "body", [{}, {"refresh_token": ""}, {"refresh_token": 7}, {"refreshToken": "x"}]
    )
    async def test_a_body_without_one_is_explained(
        self, body: dict[str, Any], api: httpx.AsyncClient
    ) -> None:
        answer = await api.post("/authentication/refresh", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation-failed")

    async def test_an_outage_is_no_end_of_the_session(
        self, api: httpx.AsyncClient, project: Project
    ) -> None:
        session = await log_in(api)
        for fault in ({"status": 503}, {"garbage": True}):
            async with project.control.misbehaving(**fault, path_prefix="/auth/v1/token"):
                answer = await refresh(api, session["refresh_token"])
                assert (answer.status_code, answer.json()["code"]) == (503, "auth-unavailable")
        assert (await refresh(api, session["refresh_token"])).status_code == 200


class TestLogOut:
    async def test_the_session_is_over_here_and_there(self, api: httpx.AsyncClient) -> None:
        session = await log_in(api)
        assert (await api.get("/leads", headers=bearer(session))).status_code == 200
        answer = await api.post("/authentication/logout", headers=bearer(session))
        assert (answer.status_code, answer.content) == (204, b"")
        refused = await api.get("/leads", headers=bearer(session))
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid-token")
        assert (await refresh(api, session["refresh_token"])).status_code == 401

    async def test_another_process_refuses_its_tokens_too(
        self, api: httpx.AsyncClient, project: Project, api_settings: ApiSettings
    ) -> None:
        session = await log_in(api)
        later = (await refresh(api, session["refresh_token"])).json()
        await api.post("/authentication/logout", headers=bearer(later))
        async with running_api(project.settings(api_settings)) as other:
            for one in (session, later):
                assert (await other.get("/leads", headers=bearer(one))).status_code == 401

    async def test_the_users_other_sessions_go_on(self, api: httpx.AsyncClient) -> None:
        phone, laptop = await log_in(api), await log_in(api)
        await api.post("/authentication/logout", headers=bearer(phone))
        assert (await api.get("/leads", headers=bearer(laptop))).status_code == 200
        assert (await refresh(api, laptop["refresh_token"])).status_code == 200

    async def test_it_can_be_tried_again_after_an_outage(
        self, api: httpx.AsyncClient, project: Project
    ) -> None:
        session = await log_in(api)
        async with project.control.misbehaving(status=503, path_prefix="/auth/v1/logout"):
            answer = await api.post("/authentication/logout", headers=bearer(session))
            assert (answer.status_code, answer.json()["code"]) == (503, "auth-unavailable")
        answer = await api.post("/authentication/logout", headers=bearer(session))
        assert answer.status_code == 204

    async def test_a_token_in_its_leeway_ends_nothing_and_says_so(
        self, tmp_path: Path, api_settings: ApiSettings
    ) -> None:
        async with (
            running_project(tmp_path, jwt_exp=timedelta(seconds=1)) as project,
            running_api(project.settings(api_settings)) as api,
        ):
            await api.post("/authentication/signup", json=CREDENTIALS)
            session = await log_in(api)

            async def is_expired() -> bool:
                claims = unverified_claims(session["access_token"])
                return float(claims["exp"]) <= time.time()

            await eventually(is_expired)
            # Good for a little longer here, and no more there.
            assert (await api.get("/leads", headers=bearer(session))).status_code == 200
            refused = await api.post("/authentication/logout", headers=bearer(session))
            assert (refused.status_code, refused.json()["code"]) == (401, "invalid-token")
            fresh = (await refresh(api, session["refresh_token"])).json()
            answer = await api.post("/authentication/logout", headers=bearer(fresh))
            assert answer.status_code == 204
            assert (await refresh(api, fresh["refresh_token"])).status_code == 401

    async def test_a_banned_users_log_out_is_refused_for_good(
        self, api: httpx.AsyncClient, project: Project
    ) -> None:
        session = await log_in(api)
        await project.change_user(session, "PUT", ban_duration="1h")
        for answer in (
            await api.post("/authentication/logout", headers=bearer(session)),
            await refresh(api, session["refresh_token"]),
            await api.post("/authentication/login", json=CREDENTIALS),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "account-suspended")
            assert "Retry-After" not in answer.headers
        # Here at least the session is over.
        assert (await api.get("/leads", headers=bearer(session))).status_code == 401

    async def test_a_deleted_users_log_out_is_done(
        self, api: httpx.AsyncClient, project: Project
    ) -> None:
        session = await log_in(api)
        await project.change_user(session, "DELETE")
        answer = await api.post("/authentication/logout", headers=bearer(session))
        assert answer.status_code == 204
        assert (await api.get("/leads", headers=bearer(session))).status_code == 401

    async def test_no_session_has_its_name_in_redis(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        session = await log_in(api)
        await api.post("/authentication/logout", headers=bearer(session))
        [key] = [key.decode() for key in cast("list[bytes]", await redis.keys("signed-out:*"))]
        assert len(key) == len("signed-out:") + 64
        assert session["access_token"] not in key

    async def test_without_redis_tokens_are_taken_for_what_they_say(
        self, api: httpx.AsyncClient, project: Project, api_settings: ApiSettings
    ) -> None:
        session = await log_in(api)
        nowhere = StreamsSettings(redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}"))
        settings = replace(project.settings(api_settings), streams=nowhere)
        async with running_api(settings) as cut_off:
            assert (await cut_off.get("/leads", headers=bearer(session))).status_code == 200
            answer = await cut_off.post("/authentication/logout", headers=bearer(session))
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_me_is_who_the_token_says(api: httpx.AsyncClient, project: Project) -> None:
    session = await log_in(api)
    async with project.control.misbehaving():
        answer = await api.get("/authentication/me", headers=bearer(session))
        assert await project.control.counter("requests") == 0
    me = answer.json()
    assert (answer.status_code, me["email"]) == (200, "ada@example.com")
    assert me["id"]
    left = datetime.fromisoformat(me["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert (await api.get("/authentication/me")).status_code == 401


class TestSignUp:
    """What a deployment may set."""

    @staticmethod
    async def sign_up(
        project: Project, settings: ApiSettings, password: str, **changes: Any
    ) -> httpx.Response:
        async with running_api(project.settings(settings, **changes)) as client:
            return await client.post(
                "/authentication/signup", json={"email": "bob@example.com", "password": password}
            )

    @pytest.mark.parametrize(
        ("password", "least", "is_taken"),
        [
            ("1234567", 8, False),
            ("12345678", 8, True),
            ("123", 4, False),
            ("1234", 4, True),
            ("\u4e2d\u6587\u5bc6\u7801", 4, True),  # counted in characters
            ("\u4e2d" * 24, 4, True),  # 72 bytes
            ("\u4e2d" * 24 + "x", 4, False),
            ("\U0001f511" * 18, 4, True),  # 72 bytes
            ("\U0001f511" * 19, 4, False),
            ("x" * 72, 8, True),
            ("x" * 73, 8, False),
        ],
    )
    async def test_a_password_has_a_least_length_and_at_most_72_bytes(
        self,
        password: str,
        least: int,
        is_taken: bool,  # noqa: FBT001 (a parameter of the table)
        project: Project,
        api_settings: ApiSettings,
    ) -> None:
        answer = await self.sign_up(project, api_settings, password, password_min_length=least)
        assert answer.status_code == (201 if is_taken else 400), answer.text
        if not is_taken:
            assert list(answer.json()["errors"]) == ["password"]

    async def test_closed_sign_up_asks_no_auth_server(
        self, project: Project, api_settings: ApiSettings
    ) -> None:
        async with project.control.misbehaving(path_prefix="/auth/v1/admin"):
            answer = await self.sign_up(
                project, api_settings, "correct horse", signup_mode="closed"
            )
            assert (answer.status_code, answer.json()["code"]) == (403, "sign-up-closed")
            assert await project.control.counter("status_200") <= 1  # the signing keys


async def test_an_address_that_has_to_be_confirmed_cannot_log_in_before(
    tmp_path: Path, api_settings: ApiSettings
) -> None:
    async with running_project(tmp_path, autoconfirm=False) as project:
        key = SecretStr(project.anon_key)
        settings = project.settings(api_settings, signup_confirmation="email", supabase_key=key)
        async with running_api(settings) as client:
            signed_up = await client.post("/authentication/signup", json=CREDENTIALS)
            assert (signed_up.status_code, signed_up.json()) == (
                201,
                {"email": CREDENTIALS["email"]},
            )
            answer = await client.post("/authentication/login", json=CREDENTIALS)
            assert (answer.status_code, answer.json()["code"]) == (403, "email-not-confirmed")


async def test_a_project_that_migrates_to_signing_keys_locks_nobody_out(
    tmp_path: Path, api_settings: ApiSettings
) -> None:
    """The dashboard publishes the next key first, then signs with it; the old secret goes last."""
    secret = SecretStr("a-shared-secret-of-at-least-32-characters")
    async with (
        running_project(tmp_path, jwt_secret=secret) as project,
        running_api(project.settings(api_settings)) as api,
    ):
        await api.post("/authentication/signup", json=CREDENTIALS)
        sessions = [await log_in(api)]
        for change in ("add-standby", "rotate", "rotate"):
            await project.control.change_keys(change)
            sessions.append(await log_in(api))
            for session in sessions:
                assert (await api.get("/leads", headers=bearer(session))).status_code == 200
        unseen = await log_in(api)
        for _ in range(2):
            await project.control.change_keys("rotate")
        await project.control.change_keys("revoke")
        fresh = await log_in(api)
        # A key that was added a moment ago; one that was withdrawn is known here for a while.
        assert (await api.get("/leads", headers=bearer(fresh))).status_code == 200
        assert (await api.get("/leads", headers=bearer(unseen))).status_code == 401
