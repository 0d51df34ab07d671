"""What the auth server's refusals mean to the caller: an answer for each of its error codes.

The codes are those of https://supabase.com/docs/guides/auth/debugging/error-codes. One that is not
listed here is answered by its status: a 4xx stays one and says so, a 5xx is an outage.
"""

import re
from collections.abc import Callable, Mapping
from enum import Enum, StrEnum, auto
from http import HTTPStatus

import structlog
from supabase_auth.errors import AuthApiError

from services.api.web.problems import Problem, validation_problem

log = structlog.get_logger(__name__)

OUTAGE_RETRY_AFTER = "5"
LIMIT_RETRY_AFTER = "30"
CONFLICT_RETRY_AFTER = "1"
# A hook of the project may say anything.
LONGEST_MESSAGE = 200
BEARER = {"WWW-Authenticate": "Bearer"}
NO_HEADERS: Mapping[str, str] = {}


class Operation(StrEnum):
    """What the auth server was asked for."""

    SIGN_UP = "sign-up"
    LOG_IN = "log-in"
    REFRESH = "refresh"
    LOG_OUT = "log-out"
    TOKEN_CHECK = "token check"  # noqa: S105 (no secret)


class Meaning(Enum):
    """Why the auth server refused."""

    FAILED = auto()
    """Its own fault, or that of something it needs."""
    LIMITED = auto()
    KEY_OR_TOKEN = auto()
    """The bearer of the request: the user's token where there is one, else the project's key."""
    KEY = auto()
    INVALID = auto()
    TAKEN = auto()
    CLOSED = auto()
    CREDENTIALS = auto()
    UNCONFIRMED = auto()
    SUSPENDED = auto()
    SESSION_OVER = auto()
    CAPTCHA = auto()
    SECOND_FACTOR = auto()
    REFUSED = auto()
    """For a reason that is not known here: a hook's, or one of a newer server."""


_CODES: Mapping[Meaning, str] = {
    Meaning.FAILED: "unexpected_failure request_timeout sms_send_failed hook_timeout "
    "hook_timeout_after_retry hook_payload_over_size_limit hook_payload_invalid_content_type",
    # A conflict is one of requests that came at the same time.
    Meaning.LIMITED: "over_request_rate_limit over_email_send_rate_limit over_sms_send_rate_limit "
    "conflict",
    Meaning.KEY_OR_TOKEN: "bad_jwt not_admin no_authorization",
    Meaning.INVALID: "validation_failed bad_json weak_password email_address_invalid "
    "email_address_not_provided",
    Meaning.TAKEN: "email_exists phone_exists user_already_exists identity_already_exists",
    Meaning.CLOSED: "signup_disabled email_provider_disabled provider_disabled "
    "anonymous_provider_disabled email_address_not_authorized",
    Meaning.CREDENTIALS: "invalid_credentials",
    Meaning.UNCONFIRMED: "email_not_confirmed phone_not_confirmed "
    "provider_email_needs_verification",
    Meaning.SUSPENDED: "user_banned",
    Meaning.SESSION_OVER: "refresh_token_not_found refresh_token_already_used session_not_found "
    "session_expired user_not_found",
    Meaning.CAPTCHA: "captcha_failed",
    Meaning.SECOND_FACTOR: "insufficient_aal reauthentication_needed",
}
# Which of them an operation tells its caller; any other is a refusal without a name.
_ALWAYS = frozenset({Meaning.FAILED, Meaning.LIMITED, Meaning.KEY})
_OF_PASSWORDS = frozenset(
    {Meaning.INVALID, Meaning.CLOSED, Meaning.SUSPENDED, Meaning.CAPTCHA, Meaning.SECOND_FACTOR}
)
_TOLD_BY: Mapping[Operation, frozenset[Meaning]] = {
    Operation.SIGN_UP: _OF_PASSWORDS | {Meaning.TAKEN},
    Operation.LOG_IN: _OF_PASSWORDS | {Meaning.CREDENTIALS, Meaning.UNCONFIRMED},
    Operation.REFRESH: frozenset({Meaning.SESSION_OVER, Meaning.SUSPENDED, Meaning.SECOND_FACTOR}),
    Operation.LOG_OUT: frozenset({Meaning.KEY_OR_TOKEN, Meaning.SUSPENDED}),
    Operation.TOKEN_CHECK: frozenset(),
}
_BY_CODE = {code: meaning for meaning, codes in _CODES.items() for code in codes.split()}

# Servers from before error codes are understood by their words; the first that fits counts.
_WORDS: tuple[tuple[str, Meaning], ...] = (
    (r"banned", Meaning.SUSPENDED),
    (r"captcha", Meaning.CAPTCHA),
    (r"not confirmed", Meaning.UNCONFIRMED),
    (r"refresh token|session", Meaning.SESSION_OVER),
    (r"jwt|user not found", Meaning.KEY_OR_TOKEN),
    (r"already", Meaning.TAKEN),
    (r"not allowed for this instance|are disabled", Meaning.CLOSED),
    (r"credentials|invalid_grant", Meaning.CREDENTIALS),
    (r"valid|password should", Meaning.INVALID),
)


def meaning_of(error: AuthApiError) -> Meaning:
    """Return why the auth server, or the gateway before it, refused."""
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Meaning.FAILED
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Meaning.LIMITED
    if error.code is not None:
        if error.code.startswith("mfa_"):
            return Meaning.SECOND_FACTOR
        return _BY_CODE.get(error.code, Meaning.REFUSED)
    return _by_words(error)


def _by_words(error: AuthApiError) -> Meaning:
    message = error.message.lower()
    if error.status == HTTPStatus.UNAUTHORIZED:
        return Meaning.KEY_OR_TOKEN if "jwt" in message else Meaning.KEY
    for words, meaning in _WORDS:
        if re.search(words, message):
            return meaning
    # A gateway knows no such route: the address is wrong.
    return Meaning.FAILED if error.status == HTTPStatus.NOT_FOUND else Meaning.REFUSED


def refusal(operation: Operation, error: AuthApiError) -> Problem:
    """Return the answer to a request that the auth server refused."""
    meaning = _seen_by(operation, error)
    log.info(
        "accounts.refused",
        what=operation,
        meaning=meaning.name,
        auth_code=error.code,
        auth_status=error.status,
    )
    return _ANSWERS[meaning](operation, error)


def _seen_by(operation: Operation, error: AuthApiError) -> Meaning:
    meaning = meaning_of(error)
    if operation is Operation.REFRESH and meaning is Meaning.INVALID:
        return Meaning.SESSION_OVER
    if operation is Operation.LOG_IN and error.code == "user_not_found":
        return Meaning.CREDENTIALS
    if operation is not Operation.LOG_OUT and meaning is Meaning.KEY_OR_TOKEN:
        return Meaning.KEY
    return meaning if meaning in _ALWAYS | _TOLD_BY[operation] else Meaning.REFUSED


def unavailable(operation: Operation, *, reason: str) -> Problem:
    """Return the answer while the auth server cannot do what it was asked for."""
    log.warning("accounts.unavailable", what=operation, reason=reason)
    return auth_unavailable(f"The {operation} is not possible now")


def auth_unavailable(detail: str) -> Problem:
    """Return the refusal of what the auth server is needed for, and cannot do."""
    return Problem("auth-unavailable", detail, headers={"Retry-After": OUTAGE_RETRY_AFTER})


def _failed(operation: Operation, error: AuthApiError) -> Problem:
    return unavailable(operation, reason=f"{error.status} {error.code}")


def _key_refused(operation: Operation, error: AuthApiError) -> Problem:
    log.error(
        "accounts.key_refused",
        what=operation,
        hint="SUPABASE_KEY must be the project's secret (service_role) key, or set "
        "SIGNUP_CONFIRMATION=email"
        if operation is Operation.SIGN_UP
        else "SUPABASE_KEY must be a key of the project at SUPABASE_URI",
        auth_code=error.code,
        auth_status=error.status,
    )
    return unavailable(operation, reason="the key was refused")


def _limited(_operation: Operation, error: AuthApiError) -> Problem:
    # "For security purposes, you can only request this after 42 seconds."
    named = re.search(r"after (\d{1,5}) seconds", error.message)
    usual = CONFLICT_RETRY_AFTER if error.code == "conflict" else LIMIT_RETRY_AFTER
    return Problem(
        "rate-limited",
        "The authentication service asks to wait",
        headers={"Retry-After": named[1] if named else usual},
    )


def _token_refused(_operation: Operation, _error: AuthApiError) -> Problem:
    return invalid_token("The authentication service takes this token no more: refresh it first")


def invalid_token(reason: str) -> Problem:
    """Return the refusal of a token that proves nothing, or no longer does."""
    challenge = f'Bearer error="invalid_token", error_description="{reason}"'
    return Problem("invalid-token", reason, headers={"WWW-Authenticate": challenge})


def _invalid(_operation: Operation, error: AuthApiError) -> Problem:
    field = "password" if "password" in error.message.lower() else "email"
    return validation_problem({field: _shown(error) or "Not accepted"})


def _closed(operation: Operation, _error: AuthApiError) -> Problem:
    if operation is Operation.SIGN_UP:
        return sign_up_closed()
    return Problem("log-in-closed", "Nobody may log in with a password")


def sign_up_closed() -> Problem:
    """Return the refusal of new accounts."""
    return Problem("sign-up-closed", "New accounts are not accepted")


def email_taken() -> Problem:
    """Return the refusal of an address that has an account."""
    return Problem("email-taken", "An account with this e-mail address exists")


def _refused(operation: Operation, error: AuthApiError) -> Problem:
    reason = _shown(error) or error.code or f"status {error.status}"
    return Problem("auth-refused", f"The authentication service refuses the {operation}: {reason}")


def _shown(error: AuthApiError) -> str:
    """Return the message as people may see it."""
    text = "".join(part if part.isprintable() else " " for part in error.message)
    return " ".join(text.split())[:LONGEST_MESSAGE]


def _says(
    code: str, detail: str, headers: Mapping[str, str] = NO_HEADERS
) -> Callable[[Operation, AuthApiError], Problem]:
    return lambda _operation, _error: Problem(code, detail, headers=headers)


_ANSWERS: Mapping[Meaning, Callable[[Operation, AuthApiError], Problem]] = {
    Meaning.FAILED: _failed,
    Meaning.LIMITED: _limited,
    Meaning.KEY: _key_refused,
    Meaning.KEY_OR_TOKEN: _token_refused,
    Meaning.INVALID: _invalid,
    Meaning.TAKEN: lambda _operation, _error: email_taken(),
    Meaning.CLOSED: _closed,
    Meaning.CREDENTIALS: _says(
        "invalid-credentials", "The e-mail address or the password is wrong", BEARER
    ),
    Meaning.UNCONFIRMED: _says(
        "email-not-confirmed", "Follow the link in the confirmation e-mail first"
    ),
    Meaning.SUSPENDED: _says("account-suspended", "This account may not log in"),
    Meaning.SESSION_OVER: _says(
        "session-over", "The refresh token is not valid any more: log in again", BEARER
    ),
    Meaning.CAPTCHA: _says(
        "captcha-failed", "A captcha has to be solved: send its token as captcha_token"
    ),
    Meaning.SECOND_FACTOR: _says("second-factor-needed", "This account needs a second factor"),
    Meaning.REFUSED: _refused,
}
