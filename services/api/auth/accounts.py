"""Supabase's accounts: sign-up, log-in, and its check of a token."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import httpx
from pydantic import BaseModel
from supabase_auth import AsyncGoTrueClient
from supabase_auth.errors import AuthApiError, AuthError, AuthWeakPasswordError
from supabase_auth.helpers import handle_exception
from supabase_auth.types import AuthResponse

from services.api.auth.refusals import (
    Meaning,
    Operation,
    email_taken,
    meaning_of,
    refusal,
    sign_up_closed,
    unavailable,
)
from services.api.auth.tokens import AUDIENCE, ROLE, User
from services.api.web.problems import Problem, validation_problem
from shared.domain.errors import UnavailableError

# Auth servers hash passwords with all their cores: more at once take longer, and then all too long.
PASSWORDS_AT_ONCE = 4
# Whoever sends made-up tokens has the auth server asked about no more of them at once.
CHECKS_AT_ONCE = 10
# How long one waits to be among them.
TURN = timedelta(seconds=20)
CLIENT_ADDRESS = "Sb-Forwarded-For"
FORGED = frozenset({Meaning.KEY_OR_TOKEN, Meaning.SESSION_OVER, Meaning.SUSPENDED})


@dataclass(frozen=True, slots=True)
class Session:
    """What a log-in gives. `expires_in` is in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who says so, with the token of a captcha that was solved, and from which address."""

    email: str
    password: str
    captcha_token: str | None = None
    client_address: str | None = None


class ProjectRules(BaseModel):
    """What the auth server's `/settings` say of sign-up."""

    disable_signup: bool = False
    mailer_autoconfirm: bool = False
    external: Mapping[str, bool] = {}

    @property
    def are_closed(self) -> bool:
        """Whether nobody may sign up with an e-mail address."""
        return self.disable_signup or not self.external.get("email", True)


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
        self._headers = key_headers(key)
        self._timeout = timeout
        passwords = asyncio.Semaphore(PASSWORDS_AT_ONCE)
        self._turns = {
            Operation.SIGN_UP: passwords,
            Operation.LOG_IN: passwords,
            Operation.TOKEN_CHECK: asyncio.Semaphore(CHECKS_AT_ONCE),
        }

    async def create_confirmed(self, given: Credentials) -> str:
        """Make an account that may log in at once, by the project's rules; returns its address.

        Without a mail: a project that confirms by itself sends none, and for any other a link is
        made that nobody gets. Both check the password, and ask the project's hooks.
        """
        rules = await self._rules()
        if rules.are_closed:
            raise sign_up_closed()
        if rules.mailer_autoconfirm:
            return await self.sign_up(given)
        async with self._auth_client(Operation.SIGN_UP, given.client_address) as auth:
            link = await auth.admin.generate_link(
                {"type": "signup", "email": given.email, "password": given.password}
            )
        await self._check_password_of_unconfirmed(given)
        async with self._auth_client(Operation.SIGN_UP, given.client_address) as auth:
            answer = await auth.admin.update_user_by_id(link.user.id, {"email_confirm": True})
        return answer.user.email or given.email

    async def sign_up(self, given: Credentials) -> str:
        """Make an account that Supabase confirms by its own rules; returns its address."""
        async with self._auth_client(Operation.SIGN_UP, given.client_address) as auth:
            answer = await auth.sign_up(
                {
                    "email": given.email,
                    "password": given.password,
                    "options": {"captcha_token": given.captcha_token or ""},
                }
            )
        return given.email if answer.user is None else answer.user.email or given.email

    async def log_in(self, given: Credentials) -> Session:
        """Open a session."""
        async with self._auth_client(Operation.LOG_IN, given.client_address) as auth:
            answer = await auth.sign_in_with_password(
                {
                    "email": given.email,
                    "password": given.password,
                    "options": {"captcha_token": given.captcha_token or ""},
                }
            )
        return _session(answer, Operation.LOG_IN)

    async def refresh(self, refresh_token: str, *, client_address: str | None = None) -> Session:
        """Go on with a session: its refresh token is used up, and the answer has the next."""
        async with self._auth_client(Operation.REFRESH, client_address) as auth:
            answer = await auth.refresh_session(refresh_token)
        return _session(answer, Operation.REFRESH)

    async def log_out(self, token: str) -> None:
        """End the session of a signed-in user's token; one that is over already is fine."""
        async with self._auth_client(Operation.LOG_OUT) as auth:
            try:
                await auth.admin.sign_out(token, "local")
            except AuthApiError as error:
                if meaning_of(error) is not Meaning.SESSION_OVER:
                    raise

    async def is_token_valid(self, token: str, *, for_user: User) -> bool:
        """Whether the auth server takes the token as this signed-in user's."""
        try:
            async with self._auth_client(Operation.TOKEN_CHECK) as auth:
                try:
                    answer = await auth.get_user(token)
                except AuthApiError as error:
                    if meaning_of(error) in FORGED:
                        return False
                    raise
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

    async def _rules(self) -> ProjectRules:
        async with self._auth_client(Operation.SIGN_UP):
            try:
                response = await self._client.get(f"{self._url}/settings", headers=self._headers)
                return ProjectRules.model_validate_json(response.raise_for_status().content)
            except (httpx.HTTPStatusError, httpx.RequestError) as error:
                raise handle_exception(error) from error

    async def _check_password_of_unconfirmed(self, given: Credentials) -> None:
        """Raise `Problem` unless the unconfirmed account is that of this password's owner.

        It may be older than this request, and somebody else's: one who was invited, or waits for a
        mail. Or it was left behind by a sign-up that an outage cut off, and is finished now.
        """
        async with self._auth_client(Operation.SIGN_UP, given.client_address) as auth:
            try:
                await auth.sign_in_with_password({"email": given.email, "password": given.password})
            except AuthApiError as error:
                if meaning_of(error) is Meaning.CREDENTIALS:
                    raise email_taken() from error
                if meaning_of(error) is not Meaning.UNCONFIRMED:
                    raise

    @contextlib.asynccontextmanager
    async def _auth_client(
        self, operation: Operation, client_address: str | None = None
    ) -> AsyncGenerator[AsyncGoTrueClient]:
        """Yield what asks the auth server; raises `Problem` for what it refuses or cannot do."""
        # The auth server limits by address, and would see that of this server only.
        sender = {} if client_address is None else {CLIENT_ADDRESS: client_address}
        auth = AsyncGoTrueClient(
            url=self._url,
            headers={**self._headers, **sender},
            http_client=self._client,
            auto_refresh_token=False,
            persist_session=False,
        )
        async with self._turn(operation):
            try:
                async with asyncio.timeout(self._timeout.total_seconds()):
                    yield auth
            except AuthApiError as error:
                raise refusal(operation, error) from error
            except AuthWeakPasswordError as error:
                raise validation_problem({"password": error.message}) from error
            # Refused connections, gateways' error pages, and answers of another shape.
            except (AuthError, TimeoutError, ValueError) as error:
                raise unavailable(operation, reason=type(error).__name__) from error

    @contextlib.asynccontextmanager
    async def _turn(self, operation: Operation) -> AsyncGenerator[None]:
        turns = self._turns.get(operation)
        if turns is None:
            yield
            return
        try:
            async with asyncio.timeout(TURN.total_seconds()):
                await turns.acquire()
        except TimeoutError as error:
            raise unavailable(operation, reason="too many at once") from error
        try:
            yield
        finally:
            turns.release()


def key_headers(key: str) -> Mapping[str, str]:
    """Return the headers that carry a project key. Keys of the new kind are no JWTs."""
    if key.count(".") == 2:  # noqa: PLR2004 (header, payload, signature)
        return {"apikey": key, "Authorization": f"Bearer {key}"}
    return {"apikey": key}


def _session(answer: AuthResponse, operation: Operation) -> Session:
    if answer.session is None:
        raise unavailable(operation, reason="no session in the answer")
    session = answer.session
    return Session(
        session.access_token, session.refresh_token, session.expires_in, session.token_type
    )
