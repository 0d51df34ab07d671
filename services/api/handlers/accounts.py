"""`/authentication`: accounts, and sessions from log-in to log-out."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from aiohttp import hdrs, web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError

from services.api.auth import accounts as auth
from services.api.auth.accounts import Accounts
from services.api.auth.refusals import sign_up_closed
from services.api.auth.tokens import unverified_claims
from services.api.auth.verifier import TokenVerifier, bearer_token
from services.api.handlers.leads import EXAMPLE_LEAD
from services.api.server.limits import LoginLimits
from services.api.server.routing import Call
from services.api.settings import AuthSettings
from services.api.web.body import Model, read_json_object
from services.api.web.endpoint import Access, Answer, Body, Endpoint, Tag
from services.api.web.problems import Problem, validation_problem
from services.api.web.responses import (
    NO_STORE,
    Representation,
    empty_response,
    json_response,
    with_example,
)
from shared.domain.lead import email_key
from shared.events.lead_fields import TEXT, Cleaned, Email

# Auth servers hash a password only where there is an account: the 100 ms would reveal that.
REFUSAL_STEP = timedelta(milliseconds=250)
# bcrypt, which Supabase hashes with, reads no further.
PASSWORD_MAX_BYTES = 72

EXAMPLE_CREDENTIALS = {"email": "ada@example.com", "password": "correct horse battery"}
EXAMPLE_REFRESH_TOKEN = "v1.MXc1cmVmcmVzaA"  # noqa: S105 (made up)

# What a refused log-in says of the password that was tried; an outage says nothing.
GUESSES = frozenset({"invalid-credentials", "account-suspended"})


def _check_unicode(secret: SecretStr) -> SecretStr:
    """Refuse lone surrogates: no text on its way to the auth server has them."""
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError as error:
        raise PydanticCustomError("unicode", "Must be valid Unicode") from error
    return secret


def _check_printable(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().isprintable():
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return secret


Password = Annotated[
    SecretStr, Field(min_length=1, max_length=1000), AfterValidator(_check_unicode)
]
Token = Annotated[
    SecretStr,
    Field(min_length=1, max_length=4000, json_schema_extra={"pattern": "^[ -~]*$"}),
    AfterValidator(_check_printable),
]


class Attempt(BaseModel):
    """What log-in and sign-up have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    captcha_token: Annotated[
        Token | None,
        Field(description="Where the project asks for a captcha: the token of one that was solved"),
    ] = None


class Credentials(Attempt):
    """The body of a log-in."""

    # Of an account that exists, perhaps made elsewhere and by other rules than those of sign-up.
    email: Annotated[str, Cleaned, Field(min_length=1, max_length=1000, json_schema_extra=TEXT)]
    password: Password


class RefreshToken(BaseModel):
    """The body of a refresh."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refresh_token: Token


class NewAccount(Attempt):
    """The body of a sign-up."""

    email: Email
    # Checked by `check_new_password`, since the least length is a setting.
    password: Annotated[
        SecretStr,
        Field(
            description=f"At most {PASSWORD_MAX_BYTES} bytes in UTF-8. A deployment may ask for "
            "another least length",
            json_schema_extra={"minLength": 8, "maxLength": PASSWORD_MAX_BYTES},
        ),
    ]


class SignedUp(Representation):
    """A new account."""

    model_config = with_example(email="ada@example.com")

    email: Annotated[str, Field(json_schema_extra={"format": "email"})]


class Session(Representation):
    """The tokens of a signed-in user."""

    # The names are those of the auth server, and of OAuth.
    model_config = ConfigDict(alias_generator=None) | with_example(
        access_token="eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI1ZjBjMmIxZSJ9.c2lnbmF0dXJl",  # noqa: S106 (made up)
        refresh_token=EXAMPLE_REFRESH_TOKEN,
        expires_in=3600,
        token_type="bearer",  # noqa: S106 (not a secret)
    )

    access_token: Annotated[str, Field(description="To be sent as `Authorization: Bearer ...`")]
    refresh_token: str
    expires_in: Annotated[int, Field(description="Seconds until the access token expires")]
    token_type: Literal["bearer"]


class Me(Representation):
    """The signed-in user, as the access token says."""

    model_config = with_example(
        id=EXAMPLE_LEAD["createdBy"], email="ada@example.com", expiresAt="2026-11-24T10:30:00Z"
    )

    id: str
    email: Annotated[str | None, Field(description="Null when the account has none")]
    expires_at: Annotated[datetime, Field(description="When the access token expires")]


class AccountHandlers:
    """Accounts of the Supabase project."""

    def __init__(
        self,
        accounts: Accounts,
        verifier: TokenVerifier,
        limits: LoginLimits,
        *,
        settings: AuthSettings,
        body_timeout: timedelta,
    ) -> None:
        self._accounts = accounts
        self._verifier = verifier
        self._limits = limits
        self._settings = settings
        self._body_timeout = body_timeout

    @Endpoint(
        "POST",
        "/authentication/signup",
        id="signUp",
        tag=Tag.AUTHENTICATION,
        summary="Make an account",
        access=Access.PUBLIC,
        body=Body.json(NewAccount, **EXAMPLE_CREDENTIALS),
        answers=(Answer.json(201, SignedUp, "The account is made"),),
        problems=(
            *("sign-up-closed", "email-taken", "captcha-failed", "account-suspended"),
            *("second-factor-needed", "auth-refused", "rate-limited", "auth-unavailable"),
        ),
    )
    async def sign_up(self, call: Call) -> web.StreamResponse:
        """Answer 201 with the e-mail address of the new account."""
        if self._settings.signup_mode == "closed":
            raise sign_up_closed()
        account = await self._read(call, NewAccount)
        given = self._credentials(call, account.email, account)
        check_new_password(given.password, min_length=self._settings.password_min_length)
        sign_up = (
            self._accounts.create_confirmed
            if self._settings.signup_confirmation == "auto"
            else self._accounts.sign_up
        )
        email = await sign_up(given)
        return json_response(SignedUp(email=email).to_body(), status=201, headers=NO_STORE)

    @Endpoint(
        "POST",
        "/authentication/login",
        id="logIn",
        tag=Tag.AUTHENTICATION,
        summary="Log in",
        explanation="Send the `access_token` with every other request: `Authorization: Bearer "
        "...`.",
        access=Access.PUBLIC,
        body=Body.json(Credentials, **EXAMPLE_CREDENTIALS),
        answers=(Answer.json(200, Session, "Signed in"),),
        problems=(
            *("invalid-credentials", "email-not-confirmed", "account-suspended", "log-in-closed"),
            *("captcha-failed", "second-factor-needed", "auth-refused"),
            *("rate-limited", "auth-unavailable"),
        ),
    )
    async def log_in(self, call: Call) -> web.StreamResponse:
        """Answer with the tokens of a new session."""
        credentials = await self._read(call, Credentials)
        given = self._credentials(call, credentials.email, credentials)
        await self._limits.count_attempt(call, email=given.email)
        try:
            async with _steady_refusals():
                tokens = await self._accounts.log_in(given)
        except Problem as problem:
            if problem.code not in GUESSES:
                await self._limits.return_attempt(call, email=given.email)
            raise
        await self._limits.reset_attempts(call, email=given.email)
        return json_response(Session.of(tokens).to_body(), headers=NO_STORE)

    @Endpoint(
        "POST",
        "/authentication/refresh",
        id="refreshSession",
        tag=Tag.AUTHENTICATION,
        summary="Go on with a session whose access token expires",
        explanation="A refresh token serves once: the answer has the next.",
        access=Access.PUBLIC,
        body=Body.json(RefreshToken, refresh_token=EXAMPLE_REFRESH_TOKEN),
        answers=(Answer.json(200, Session, "Signed in"),),
        problems=(
            *("session-over", "account-suspended", "second-factor-needed", "auth-refused"),
            *("rate-limited", "auth-unavailable"),
        ),
    )
    async def refresh(self, call: Call) -> web.StreamResponse:
        """Answer with the next tokens of the session."""
        token = (await self._read(call, RefreshToken)).refresh_token.get_secret_value()
        tokens = await self._accounts.refresh(
            token, client_address=self._limits.sender_address(call)
        )
        return json_response(Session.of(tokens).to_body(), headers=NO_STORE)

    @Endpoint(
        "POST",
        "/authentication/logout",
        id="logOut",
        tag=Tag.AUTHENTICATION,
        summary="End the session",
        explanation="Its access tokens are refused from then on, by every process within a minute.",
        answers=(Answer(status=204, description="The session is over"),),
        problems=(
            *("account-suspended", "auth-refused"),
            *("rate-limited", "auth-unavailable", "unavailable"),
        ),
    )
    async def log_out(self, call: Call) -> web.StreamResponse:
        """Answer 204 once the session is over."""
        authorization = call.request.headers[hdrs.AUTHORIZATION]
        # In this order: until the auth server knows of the log-out, the client can try again.
        try:
            await self._accounts.log_out(bearer_token(authorization))
        except Problem as problem:
            # The auth server ends no session of a banned user, who is not to be let in here either.
            if problem.code == "account-suspended":
                await self._verifier.sign_out(authorization)
            raise
        await self._verifier.sign_out(authorization)
        return empty_response(204, headers=NO_STORE)

    @Endpoint(
        "GET",
        "/authentication/me",
        id="readMe",
        tag=Tag.AUTHENTICATION,
        summary="Ask who is signed in",
        answers=(Answer.json(200, Me, "Who is"),),
    )
    async def me(self, call: Call) -> web.StreamResponse:
        """Answer with the claims of the verified token: no request goes out."""
        claims = unverified_claims(bearer_token(call.request.headers[hdrs.AUTHORIZATION]))
        me = Me(
            id=call.user.id,
            email=claims.get("email") or None,
            expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
        )
        # In this answer alone the offset of a time is written as Z.
        body = me.model_dump_json(by_alias=True).encode()
        return json_response(body, headers=NO_STORE)

    async def _read(self, call: Call, model: type[Model]) -> Model:
        return call.parse(model, await read_json_object(call.request, within=self._body_timeout))

    def _credentials(
        self, call: Call, email: str, given: Credentials | NewAccount
    ) -> auth.Credentials:
        captcha = given.captcha_token
        return auth.Credentials(
            # As auth servers keep it, which know neither capitals nor domains that are not ASCII.
            email=email_key(email) if "@" in email else email,
            password=given.password.get_secret_value(),
            captcha_token=None if captcha is None else captcha.get_secret_value(),
            client_address=self._limits.sender_address(call),
        )


@contextlib.asynccontextmanager
async def _steady_refusals() -> AsyncGenerator[None]:
    """Delay the refusal of wrong credentials to the next step: its time must reveal nothing."""
    clock = asyncio.get_running_loop().time
    started, step = clock(), REFUSAL_STEP.total_seconds()
    try:
        yield
    except Problem as problem:
        if problem.code == "invalid-credentials":
            await asyncio.sleep(step - (clock() - started) % step)
        raise


def check_new_password(password: str, *, min_length: int) -> None:
    """Raise `Problem` 400 for a password that is too short, or longer than gets hashed."""
    if len(password) < min_length:
        raise validation_problem({"password": f"Must have at least {min_length} characters"})
    if len(password.encode(errors="replace")) > PASSWORD_MAX_BYTES:
        raise validation_problem({"password": f"Must have at most {PASSWORD_MAX_BYTES} bytes"})
    if not password.isprintable():
        raise validation_problem({"password": "Control characters are not allowed"})
