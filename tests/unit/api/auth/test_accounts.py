"""What the auth server's answers mean to the caller; shapes as the real servers send them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.api.auth.accounts import Accounts
from services.api.web.problems import Problem

URL = "https://ref.supabase.co/auth/v1"
NEW = {"X-Supabase-Api-Version": "2024-01-01"}
USER: dict[str, Any] = {
    "id": "0b9c1f5e-6a3b-4e0f-9d53-b1b2a5c0ffee",
    "aud": "authenticated",
    "role": "authenticated",
    "email": "ada@example.com",
    "app_metadata": {"provider": "email", "providers": ["email"]},
    "user_metadata": {"email_verified": True},
    "identities": [],
    "created_at": "2026-01-01T00:00:00.123456Z",
    "is_anonymous": False,
}
SESSION: dict[str, Any] = {
    "access_token": "a.b.c",
    "token_type": "bearer",
    "expires_in": 3600,
    "expires_at": 1_900_000_000,
    "refresh_token": "r3fr3sh",
    "user": USER,
}

Answer = Callable[[httpx.Request], httpx.Response]
Method = Callable[[Accounts], Awaitable[object]]


def accounts(answer: Answer, *, key: str = "sb_secret_x") -> Accounts:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Accounts(client, auth_url=URL, key=key, timeout=timedelta(seconds=0.2))


async def sign_up(accounts: Accounts) -> object:
    return await accounts.create_confirmed("ada@example.com", "correct horse")


async def public_sign_up(accounts: Accounts) -> object:
    return await accounts.sign_up("ada@example.com", "correct horse")


async def log_in(accounts: Accounts) -> object:
    return await accounts.log_in("ada@example.com", "correct horse")


async def problem_of(method: Method, *, status: int, body: Any, new: bool = True) -> Problem:
    with pytest.raises(Problem) as raised:
        await method(
            accounts(lambda _: httpx.Response(status, json=body, headers=NEW if new else {}))
        )
    return raised.value


async def test_a_confirmed_account_is_made_through_the_admin_api() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=USER)

    assert await sign_up(accounts(answer)) == "ada@example.com"
    assert str(seen[0].url) == f"{URL}/admin/users"
    assert b'"email_confirm":true' in seen[0].content.replace(b" ", b"")


async def test_keys_of_the_new_kind_are_no_tokens() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=USER)

    await sign_up(accounts(answer, key="sb_secret_x"))
    await sign_up(accounts(answer, key="aaa.bbb.ccc"))
    assert [request.headers["apikey"] for request in seen] == ["sb_secret_x", "aaa.bbb.ccc"]
    assert "Authorization" not in seen[0].headers
    assert seen[1].headers["Authorization"] == "Bearer aaa.bbb.ccc"


async def test_a_log_in_gives_a_session_that_is_not_kept() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=SESSION)

    opened = accounts(answer)
    session = await opened.log_in("ada@example.com", "correct horse")
    assert (session.access_token, session.refresh_token) == ("a.b.c", "r3fr3sh")
    assert (session.expires_in, session.token_type) == (3600, "bearer")
    await opened.log_in("ada@example.com", "correct horse")
    assert "a.b.c" not in str(seen[1].headers)


async def test_a_public_sign_up_waits_for_confirmation() -> None:
    assert await public_sign_up(accounts(lambda _: httpx.Response(200, json=USER))) == USER["email"]
    assert (
        await public_sign_up(accounts(lambda _: httpx.Response(200, json=SESSION))) == USER["email"]
    )


@pytest.mark.parametrize("method", [sign_up, public_sign_up])
@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (422, {"code": "email_exists", "message": "..."}, "email-taken"),
        (422, {"code": "user_already_exists", "message": "..."}, "email-taken"),
        (422, {"code": "signup_disabled", "message": "..."}, "sign-up-closed"),
        (400, {"code": "email_address_not_authorized", "message": "..."}, "sign-up-closed"),
        (400, {"code": "email_address_invalid", "message": "..."}, "validation-failed"),
        (400, {"code": "validation_failed", "message": "Unable to validate"}, "validation-failed"),
        (429, {"code": "over_email_send_rate_limit", "message": "..."}, "rate-limited"),
        (429, {"message": "..."}, "rate-limited"),
        (403, {"code": "not_admin", "message": "User not allowed"}, "auth-unavailable"),
        (401, {"code": "no_authorization", "message": "..."}, "auth-unavailable"),
        (403, {"code": "bad_jwt", "message": "invalid JWT"}, "auth-unavailable"),
        (401, {"message": "Invalid API key", "hint": "Double check"}, "auth-unavailable"),
        (500, {"code": "unexpected_failure", "message": "..."}, "auth-unavailable"),
        (503, {"message": "name resolution failed"}, "auth-unavailable"),
        (404, {"message": "no Route matched with those values"}, "auth-unavailable"),
    ],
)
async def test_a_refused_sign_up_is_explained(
    method: Method, status: int, body: Any, code: str
) -> None:
    assert (await problem_of(method, status=status, body=body)).code == code


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (422, {"code": 422, "error_code": "email_exists", "msg": "..."}, "email-taken"),
        (
            422,
            {"code": 422, "msg": "A user with this email address has already been registered"},
            "email-taken",
        ),
        (400, {"code": 400, "msg": "User already registered"}, "email-taken"),
        (
            422,
            {"code": 422, "msg": "Unable to validate email address: invalid format"},
            "validation-failed",
        ),
    ],
)
async def test_servers_from_before_error_codes_are_understood(
    status: int, body: Any, code: str
) -> None:
    assert (await problem_of(sign_up, status=status, body=body, new=False)).code == code


async def test_a_weak_password_is_explained_in_the_servers_words() -> None:
    problem = await problem_of(
        sign_up,
        status=422,
        body={
            "code": "weak_password",
            "message": "Password should contain a digit.",
            "weak_password": {"reasons": ["characters"]},
        },
    )
    assert problem.errors == {"password": "Password should contain a digit."}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (
            400,
            {"code": "invalid_credentials", "error_code": "invalid_credentials", "msg": "..."},
            "invalid-credentials",
        ),
        (
            400,
            {"error": "invalid_grant", "error_description": "Invalid login credentials"},
            "invalid-credentials",
        ),
        (
            400,
            {"error": "invalid_grant", "error_description": "Email not confirmed"},
            "email-not-confirmed",
        ),
        (
            400,
            {"code": "email_not_confirmed", "error_code": "email_not_confirmed", "msg": "..."},
            "email-not-confirmed",
        ),
        (
            400,
            {"code": "user_banned", "error_code": "user_banned", "msg": "..."},
            "account-suspended",
        ),
        (
            429,
            {"code": "over_request_rate_limit", "error_code": "over_request_rate_limit"},
            "rate-limited",
        ),
        (401, {"message": "Invalid API key"}, "auth-unavailable"),
        (422, {"code": "email_provider_disabled", "message": "..."}, "auth-unavailable"),
        (500, {"code": "unexpected_failure", "message": "..."}, "auth-unavailable"),
    ],
)
async def test_a_refused_log_in_is_explained(
    new: bool,  # noqa: FBT001 (a parameter of the table)
    status: int,
    body: Any,
    code: str,
) -> None:
    assert (await problem_of(log_in, status=status, body=body, new=new)).code == code


def say(status: int, **content: Any) -> Answer:
    return lambda _request: httpx.Response(status, **content)


def hang(_request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("too slow")


PAGE = "<!doctype html><title>Bad gateway</title>"


@pytest.mark.parametrize("method", [sign_up, public_sign_up, log_in])
@pytest.mark.parametrize(
    "answer",
    [
        say(200, text=PAGE),
        say(200, json={}),
        say(200, json=[]),
        say(204),
        say(302, headers={"Location": "https://evil.example/"}),
        say(400, text=PAGE),
        say(422, json={"code": "weak_password", "message": "..."}),
        say(502, text=PAGE),
        say(521, text=""),
        hang,
    ],
)
async def test_an_answer_that_is_none_is_an_outage(method: Method, answer: Answer) -> None:
    with pytest.raises(Problem) as raised:
        await method(accounts(answer))
    assert (raised.value.code, raised.value.status) == ("auth-unavailable", 503)
