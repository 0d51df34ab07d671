"""What the auth server's answers mean to the caller; shapes as the real servers send them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.api.auth.accounts import Accounts, Credentials
from services.api.auth.tokens import User
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

GIVEN = Credentials(email="ada@example.com", password="correct horse")

Answer = Callable[[httpx.Request], httpx.Response]
SlowAnswer = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
Method = Callable[[Accounts], Awaitable[object]]


def accounts(
    answer: Answer | SlowAnswer,
    *,
    key: str = "sb_secret_x",
    timeout: timedelta = timedelta(seconds=0.2),
) -> Accounts:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Accounts(client, auth_url=URL, key=key, timeout=timeout)


async def sign_up(accounts: Accounts) -> object:
    return await accounts.create_confirmed(GIVEN)


async def public_sign_up(accounts: Accounts) -> object:
    return await accounts.sign_up(GIVEN)


async def log_in(accounts: Accounts) -> object:
    return await accounts.log_in(GIVEN)


async def problem_of(method: Method, *, status: int, body: Any, new: bool = True) -> Problem:
    with pytest.raises(Problem) as raised:
        await method(
            accounts(lambda _: httpx.Response(status, json=body, headers=NEW if new else {}))
        )
    return raised.value


async def refresh(accounts: Accounts) -> object:
    return await accounts.refresh("r3fr3sh")


async def log_out(accounts: Accounts) -> None:
    await accounts.log_out("a.b.c")


async def test_keys_of_the_new_kind_are_no_tokens() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=USER)

    await public_sign_up(accounts(answer, key="sb_secret_x"))
    await public_sign_up(accounts(answer, key="aaa.bbb.ccc"))
    assert [request.headers["apikey"] for request in seen] == ["sb_secret_x", "aaa.bbb.ccc"]
    assert "Authorization" not in seen[0].headers
    assert seen[1].headers["Authorization"] == "Bearer aaa.bbb.ccc"


async def test_a_log_in_gives_a_session_that_is_not_kept() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=SESSION)

    opened = accounts(answer)
    session = await opened.log_in(GIVEN)
    assert (session.access_token, session.refresh_token) == ("a.b.c", "r3fr3sh")
    assert (session.expires_in, session.token_type) == (3600, "bearer")
    await opened.log_in(GIVEN)
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
        (400, {"msg": "captcha protection: request disallowed (no token)"}, "captcha-failed"),
        (422, {"msg": "Email logins are disabled"}, "log-in-closed"),
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


# Every code of the server's source, with its status where that is not 400.
CODES = """unknown validation_failed bad_json email_exists:422 phone_exists:422 bad_jwt:403
not_admin:403 no_authorization:401 user_not_found:403 session_not_found:403 session_expired
refresh_token_not_found refresh_token_already_used flow_state_not_found:404 flow_state_expired:422
oauth_client_state_not_found:404 oauth_client_state_expired:422 oauth_invalid_state
signup_disabled:422 user_banned provider_email_needs_verification:422 invite_not_found:403
bad_oauth_state bad_oauth_callback oauth_provider_not_supported unexpected_audience
single_identity_not_deletable:422 email_conflict_identity_not_deletable:422
identity_already_exists:422 email_provider_disabled:422 phone_provider_disabled:422
too_many_enrolled_mfa_factors:422 mfa_factor_name_conflict:422 mfa_factor_not_found:404
mfa_ip_address_mismatch:422 mfa_challenge_expired:422 mfa_verification_failed:422
mfa_verification_rejected:403 insufficient_aal:401 captcha_failed saml_provider_disabled:404
manual_linking_disabled:404 sms_send_failed:422 email_not_confirmed phone_not_confirmed
saml_relay_state_not_found:404 saml_relay_state_expired:422 saml_idp_not_found:404
saml_assertion_no_user_id saml_assertion_no_email user_already_exists:422
sso_provider_not_found:404 sso_provider_disabled:422 saml_metadata_fetch_failed
saml_idp_already_exists:422 sso_domain_already_exists:422 saml_entity_id_mismatch conflict:409
provider_disabled:422 user_sso_managed:422 reauthentication_needed same_password:422
reauthentication_not_valid:422 otp_expired:403 otp_disabled:422 identity_not_found:404
over_request_rate_limit:429 over_email_send_rate_limit:429 over_sms_send_rate_limit:429
bad_code_verifier anonymous_provider_disabled:422 hook_timeout:422 hook_timeout_after_retry:422
hook_payload_over_size_limit:422 hook_payload_invalid_content_type request_timeout:504
unexpected_failure:500 mfa_phone_enroll_not_enabled:422 mfa_phone_verify_not_enabled:422
mfa_totp_enroll_not_enabled:422 mfa_totp_verify_not_enabled:422
mfa_webauthn_enroll_not_enabled:422 mfa_webauthn_verify_not_enabled:422
mfa_verified_factor_exists:422 invalid_credentials email_address_not_authorized
email_address_invalid web3_provider_disabled:422 web3_unsupported_chain
oauth_dynamic_client_registration_disabled:403 email_address_not_provided
oauth_client_not_found:404 oauth_authorization_not_found:404 oauth_consent_not_found:404
of_a_newer_server of_a_newer_server_too:418 newer_outage:500 newer_timeout:599"""
STATUSES = {
    code: int(status or 400) for code, _, status in (c.partition(":") for c in CODES.split())
}
FAULTS = {"hook_timeout", "hook_timeout_after_retry", "sms_send_failed"} | {
    *("hook_payload_over_size_limit", "hook_payload_invalid_content_type")
}
KEY_REFUSED = {"bad_jwt", "not_admin", "no_authorization"}
OVER = {
    *("refresh_token_not_found", "refresh_token_already_used"),
    *("session_not_found", "session_expired", "user_not_found"),
}


@pytest.mark.parametrize("method", [sign_up, public_sign_up, log_in, refresh, log_out])
async def test_every_code_of_the_auth_server_has_its_answer(method: Method) -> None:
    """The caller's fault is a 4xx for good, and nothing but an outage says to try again."""
    for code, status in STATUSES.items():
        if method is log_out and code in OVER:
            continue
        problem = await problem_of(method, status=status, body={"code": code, "message": "Words"})
        if status == 429 or code == "conflict":
            expected = {429}
        elif status >= 500 or code in FAULTS or (code in KEY_REFUSED and method is not log_out):
            expected = {503}
        else:
            expected = {400, 401, 403, 409}
        assert problem.status in expected, (code, problem)
        assert ("Retry-After" in problem.headers) == (problem.status in {429, 503})


@pytest.mark.parametrize(
    ("method", "code", "answer"),
    [
        (public_sign_up, "captcha_failed", "captcha-failed"),
        (log_in, "captcha_failed", "captcha-failed"),
        (log_in, "email_provider_disabled", "log-in-closed"),
        (log_in, "mfa_verification_rejected", "second-factor-needed"),
        (log_in, "insufficient_aal", "second-factor-needed"),
        (log_in, "user_not_found", "invalid-credentials"),
        (log_in, "of_a_newer_server", "auth-refused"),
        (refresh, "validation_failed", "session-over"),
        (refresh, "session_expired", "session-over"),
        (refresh, "user_banned", "account-suspended"),
        (log_out, "user_banned", "account-suspended"),
        (log_out, "bad_jwt", "invalid-token"),
        (public_sign_up, "of_a_newer_server", "auth-refused"),
    ],
)
async def test_a_refusal_is_told_in_the_callers_terms(
    method: Method, code: str, answer: str
) -> None:
    problem = await problem_of(method, status=STATUSES[code], body={"code": code, "message": "..."})
    assert problem.code == answer


@pytest.mark.parametrize("method", [public_sign_up, log_in, refresh])
@pytest.mark.parametrize(
    ("status", "said", "shown"),
    [
        (
            400,
            "Addresses of this domain are not welcome",
            "Addresses of this domain are not welcome",
        ),
        (403, "Not\nfrom\x00 here", "Not from here"),
        (422, "x" * 900, "x" * 200),
        (401, "", "unknown"),
    ],
)
async def test_a_hooks_refusal_is_passed_on_and_blames_no_key(
    method: Method, status: int, said: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = await problem_of(method, status=status, body={"code": "unknown", "message": said})
    assert (problem.code, problem.detail.rpartition(": ")[2]) == ("auth-refused", shown)
    assert "SUPABASE_KEY" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "status", "body"),
    [
        (sign_up, 403, {"code": "not_admin", "message": "User not allowed"}),
        (public_sign_up, 401, {"message": "Invalid API key", "hint": "Double check"}),
        (log_in, 401, {"message": "No API key found in request"}),
        (refresh, 401, {"message": "Invalid API key"}),
    ],
)
async def test_a_refused_key_is_told_to_the_operator(
    method: Method, status: int, body: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await problem_of(method, status=status, body=body)).code == "auth-unavailable"
    assert "SUPABASE_KEY" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "words", "seconds"),
    [
        ("over_email_send_rate_limit", "You can only request this after 42 seconds.", "42"),
        ("over_request_rate_limit", "Request rate limit reached", "30"),
        ("over_request_rate_limit", "Come back after 9999999 seconds", "30"),
        ("conflict", "Too many concurrent token refresh requests on the same session", "1"),
    ],
)
async def test_a_wait_that_is_named_is_passed_on(code: str, words: str, seconds: str) -> None:
    body = {"code": code, "message": words}
    problem = await problem_of(refresh, status=STATUSES[code], body=body)
    assert problem.headers["Retry-After"] == seconds


@pytest.mark.parametrize("code", sorted(OVER))
async def test_a_session_that_is_over_is_logged_out_of(code: str) -> None:
    body = {"code": code, "message": "..."}
    await log_out(accounts(lambda _: httpx.Response(403, json=body, headers=NEW)))


def say(status: int, **content: Any) -> Answer:
    return lambda _request: httpx.Response(status, **content)


def hang(_request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("too slow")


class SlowServer:
    """An auth server with two cores, to each of which a password is 20 ms of work."""

    def __init__(self) -> None:
        self._cores = asyncio.Semaphore(2)
        self.at_once = self.most_at_once = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        async with self._cores:
            await asyncio.sleep(0.02)
        self.at_once -= 1
        is_check = request.url.path.endswith("/user")
        return httpx.Response(
            403 if is_check else 200, json={"code": "bad_jwt"} if is_check else SESSION, headers=NEW
        )


@pytest.mark.parametrize("method", [log_in, public_sign_up])
async def test_fifty_at_once_have_their_turn(method: Method) -> None:
    server = SlowServer()
    # All in time, of which there is too little for fifty that are begun at once.
    opened = accounts(server.answer, timeout=timedelta(seconds=0.4))
    await asyncio.gather(*(method(opened) for _ in range(50)))
    assert server.most_at_once <= 4


async def test_made_up_tokens_do_not_flood_the_auth_server() -> None:
    server = SlowServer()
    opened = accounts(server.answer, timeout=timedelta(seconds=2))
    checks = [opened.is_token_valid(f"a.{n}.c", for_user=User("ada")) for n in range(60)]
    assert await asyncio.gather(*checks) == [False] * 60
    assert server.most_at_once <= 10


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
        say(502, text=PAGE),
        say(521, text=""),
        hang,
    ],
)
async def test_an_answer_that_is_none_is_an_outage(method: Method, answer: Answer) -> None:
    with pytest.raises(Problem) as raised:
        await method(accounts(answer))
    assert (raised.value.code, raised.value.status) == ("auth-unavailable", 503)
