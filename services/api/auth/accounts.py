"""Supabase's accounts: sign-up, log-in, and its check of a token."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import NoReturn

import httpx
import structlog
from pydantic import ValidationError
from supabase_auth import AsyncGoTrueClient
from supabase_auth.errors import AuthApiError, AuthError, AuthWeakPasswordError
from supabase_auth.types import AuthResponse

from services.api.auth.tokens import AUDIENCE, ROLE, User
from services.api.web.problems import Problem, validation_problem
from shared.domain.errors import UnavailableError

log = structlog.get_logger(__name__)

RATE_LIMIT_CODES = frozenset(
    {"over_request_rate_limit", "over_email_send_rate_limit", "over_sms_send_rate_limit"}
)
TAKEN_CODES = frozenset({"email_exists", "user_already_exists", "conflict"})
CLOSED_CODES = frozenset(
    {"signup_disabled", "email_provider_disabled", "email_address_not_authorized"}
)
SESSION_OVER_CODES = frozenset(
    {
        *("refresh_token_not_found", "refresh_token_already_used", "session_not_found"),
        *("session_expired", "user_not_found", "bad_jwt"),
    }
)
WRONG_CREDENTIALS_CODES = frozenset({"invalid_credentials", "user_not_found", None})
WRONG_KEY_CODES = frozenset({"not_admin", "no_authorization", "bad_jwt"})
LIMIT_RETRY_AFTER = "30"
OUTAGE_RETRY_AFTER = "5"


@dataclass(frozen=True, slots=True)
class Session:
    """What a log-in gives. `expires_in` is in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str


class Accounts:
    """Talks to the auth server. Its methods raise `Problem` in the caller's terms.

    Each call has a library client of its own, since one that is shared keeps the last
    user's session for the next; the connections underneath are shared.
    """

    def __init__(
        self, client: httpx.AsyncClient, *, auth_url: str, key: str, timeout: timedelta
    ) -> None:
        self._client = client
        self._url = auth_url
        self._headers = _key_headers(key)
        self._timeout = timeout

    async def create_confirmed(self, email: str, password: str) -> str:
        """Make an account that may log in at once; returns its e-mail address."""
        async with self._auth_client("sign-up") as auth:
            try:
                answer = await auth.admin.create_user(
                    {"email": email, "password": password, "email_confirm": True}
                )
            except AuthError as error:
                _refuse_sign_up(error)
        return answer.user.email or email

    async def sign_up(self, email: str, password: str) -> str:
        """Make an account that Supabase confirms by its own rules; returns its address."""
        async with self._auth_client("sign-up") as auth:
            try:
                answer = await auth.sign_up({"email": email, "password": password})
            except AuthError as error:
                _refuse_sign_up(error)
        return email if answer.user is None else answer.user.email or email

    async def log_in(self, email: str, password: str) -> Session:
        """Open a session."""
        async with self._auth_client("log-in") as auth:
            try:
                answer = await auth.sign_in_with_password({"email": email, "password": password})
            except AuthError as error:
                _refuse_log_in(error)
        return _session(answer, what="log-in")

    async def refresh(self, refresh_token: str) -> Session:
        """Go on with a session: its refresh token is used up, and the answer has the next."""
        async with self._auth_client("refresh") as auth:
            try:
                answer = await auth.refresh_session(refresh_token)
            except AuthApiError as error:
                _refuse_refresh(error)
        return _session(answer, what="refresh")

    async def log_out(self, token: str) -> None:
        """End the session of a signed-in user's token; one that is over already is fine."""
        async with self._auth_client("log-out") as auth:
            try:
                await auth.admin.sign_out(token, "local")
            except AuthApiError as error:
                if not _is_session_over(error):
                    raise _unexpected("log-out", error) from error

    async def is_token_valid(self, token: str, *, for_user: User) -> bool:
        """Whether the auth server takes the token as this signed-in user's."""
        try:
            async with self._auth_client("token check") as auth:
                answer = await auth.get_user(token)
        except AuthApiError as error:
            if error.status in {400, 401, 403, 404}:
                return False
            raise UnavailableError(f"The auth server answered {error.status}") from error
        except Problem as problem:
            raise UnavailableError(problem.detail) from problem
        if answer is None:
            return False
        user = answer.user
        return (user.id, user.aud, user.role, user.is_anonymous) == (
            for_user.id,
            AUDIENCE,
            ROLE,
            False,
        )

    @contextlib.asynccontextmanager
    async def _auth_client(self, what: str) -> AsyncGenerator[AsyncGoTrueClient]:
        auth = AsyncGoTrueClient(
            url=self._url,
            headers=dict(self._headers),
            http_client=self._client,
            auto_refresh_token=False,
            persist_session=False,
        )
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                yield auth
        except AuthApiError:
            raise
        # Refused connections, gateways' error pages, and answers of another shape.
        except (AuthError, TimeoutError, ValidationError) as error:
            raise _unavailable(what, reason=type(error).__name__) from error


def auth_unavailable(detail: str) -> Problem:
    """Return the refusal of what the auth server is needed for, and cannot do."""
    return Problem("auth-unavailable", detail, headers={"Retry-After": OUTAGE_RETRY_AFTER})


def _key_headers(key: str) -> Mapping[str, str]:
    """Return the headers that carry a project key. Keys of the new kind are no JWTs."""
    if key.count(".") == 2:  # noqa: PLR2004 (header, payload, signature)
        return {"apikey": key, "Authorization": f"Bearer {key}"}
    return {"apikey": key}


def _refuse_sign_up(error: AuthError) -> NoReturn:
    if isinstance(error, AuthWeakPasswordError):
        raise validation_problem({"password": error.message}) from error
    if not isinstance(error, AuthApiError):
        raise error
    _refuse_if_limited(error)
    if error.code in TAKEN_CODES or _says(error, "already"):
        raise Problem("email-taken", "An account with this e-mail address exists") from error
    if error.code in CLOSED_CODES:
        raise Problem("sign-up-closed", "New accounts are not accepted") from error
    if error.code in WRONG_KEY_CODES or error.status in {401, 403}:
        log.error(
            "accounts.key_refused",
            hint="SUPABASE_KEY must be the project's secret (service_role) key, or set "
            "SIGNUP_CONFIRMATION=email",
            auth_code=error.code,
            auth_status=error.status,
        )
        raise _unavailable("sign-up", reason="the key was refused") from error
    if error.code in {"validation_failed", "email_address_invalid"} or _says(error, "valid"):
        field = "password" if _says(error, "password") else "email"
        raise validation_problem({field: error.message}) from error
    raise _unexpected("sign-up", error) from error


def _refuse_log_in(error: AuthError) -> NoReturn:
    if not isinstance(error, AuthApiError):
        raise error
    _refuse_if_limited(error)
    if error.code == "email_not_confirmed" or _says(error, "not confirmed"):
        raise Problem(
            "email-not-confirmed", "Follow the link in the confirmation e-mail first"
        ) from error
    if error.code == "user_banned":
        raise Problem("account-suspended", "This account may not log in") from error
    if error.status in {400, 404} and error.code in WRONG_CREDENTIALS_CODES:
        raise Problem(
            "invalid-credentials",
            "The e-mail address or the password is wrong",
            headers={"WWW-Authenticate": "Bearer"},
        ) from error
    raise _unexpected("log-in", error) from error


def _refuse_refresh(error: AuthApiError) -> NoReturn:
    _refuse_if_limited(error)
    if error.code == "user_banned":
        raise Problem("account-suspended", "This account may not log in") from error
    if _is_session_over(error):
        raise Problem(
            "session-over",
            "The refresh token is not valid any more: log in again",
            headers={"WWW-Authenticate": "Bearer"},
        ) from error
    raise _unexpected("refresh", error) from error


def _is_session_over(error: AuthApiError) -> bool:
    return error.code in SESSION_OVER_CODES or (
        error.status in {400, 403} and _says(error, "refresh token", "session", "jwt")
    )


def _session(answer: AuthResponse, *, what: str) -> Session:
    if answer.session is None:
        raise _unavailable(what, reason="no session in the answer")
    session = answer.session
    return Session(
        session.access_token, session.refresh_token, session.expires_in, session.token_type
    )


def _refuse_if_limited(error: AuthApiError) -> None:
    if error.code in RATE_LIMIT_CODES or error.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Problem(
            "rate-limited",
            "The authentication service asks to wait",
            headers={"Retry-After": LIMIT_RETRY_AFTER},
        ) from error


def _says(error: AuthApiError, *words: str) -> bool:
    """Whether a message has one of the words: old auth servers have no error codes."""
    return error.code is None and any(word in error.message.lower() for word in words)


def _unexpected(what: str, error: AuthApiError) -> Problem:
    return _unavailable(what, reason=f"{error.status} {error.code}")


def _unavailable(what: str, *, reason: str) -> Problem:
    log.warning("accounts.unavailable", what=what, reason=reason)
    return auth_unavailable(f"The {what} is not possible now")
