"""`/authentication`: sign-up, and a session from its log-in to its log-out."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import orjson
from aiohttp import hdrs, web

from services.api.auth.accounts import Accounts, Session
from services.api.auth.tokens import unverified_claims
from services.api.auth.verifier import TokenVerifier, bearer_token
from services.api.handlers.schemas import (
    Credentials,
    NewAccount,
    RefreshToken,
    check_new_password,
)
from services.api.server.limits import LoginLimits
from services.api.server.routing import Call
from services.api.settings import AuthSettings
from services.api.web.body import read_json_object
from services.api.web.problems import Problem
from services.api.web.responses import empty_response, json_response
from services.api.web.validation import parse

# Tokens are for the caller's eyes, not for any cache on the way.
NO_STORE = {"Cache-Control": "no-store"}

# Auth servers hash a password only where there is an account: some 100 ms that would tell.
REFUSAL_STEP = timedelta(milliseconds=250)


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

    async def sign_up(self, call: Call) -> web.StreamResponse:
        """POST /authentication/signup."""
        if self._settings.signup_mode == "closed":
            raise Problem("sign-up-closed", "New accounts are not accepted")
        credentials = await self._credentials(call, NewAccount)
        password = credentials.password.get_secret_value()
        check_new_password(password, min_length=self._settings.password_min_length)
        sign_up = (
            self._accounts.create_confirmed
            if self._settings.signup_confirmation == "auto"
            else self._accounts.sign_up
        )
        email = await sign_up(credentials.email, password)
        return json_response(orjson.dumps({"email": email}), status=201, headers=NO_STORE)

    async def log_in(self, call: Call) -> web.StreamResponse:
        """POST /authentication/login."""
        credentials = await self._credentials(call, Credentials)
        email = credentials.email
        await self._limits.count_attempt(call, email=email)
        async with _steady_refusals():
            session = await self._accounts.log_in(email, credentials.password.get_secret_value())
        await self._limits.reset_attempts(email=email)
        return _session_response(session)

    async def refresh(self, call: Call) -> web.StreamResponse:
        """POST /authentication/refresh."""
        body = await read_json_object(call.request, within=self._body_timeout)
        token = parse(RefreshToken, body).refresh_token.get_secret_value()
        return _session_response(await self._accounts.refresh(token))

    async def log_out(self, call: Call) -> web.StreamResponse:
        """POST /authentication/logout."""
        authorization = call.request.headers[hdrs.AUTHORIZATION]
        # In this order: while the auth server did not hear of it, the client can try again.
        await self._accounts.log_out(bearer_token(authorization))
        await self._verifier.sign_out(authorization)
        return empty_response(204, headers=NO_STORE)

    async def me(self, call: Call) -> web.StreamResponse:
        """GET /authentication/me: what the verified token says, without asking anybody."""
        claims = unverified_claims(bearer_token(call.request.headers[hdrs.AUTHORIZATION]))
        expires_at = datetime.fromtimestamp(int(claims["exp"]), UTC)
        body = {
            "id": call.user.id,
            "email": claims.get("email") or None,
            "expiresAt": expires_at.isoformat().replace("+00:00", "Z"),
        }
        return json_response(orjson.dumps(body), headers=NO_STORE)

    async def _credentials(self, call: Call, model: type[Credentials]) -> Credentials:
        body = await read_json_object(call.request, within=self._body_timeout)
        return parse(model, body)


@contextlib.asynccontextmanager
async def _steady_refusals() -> AsyncGenerator[None]:
    """Hold wrong credentials back until the next step, so that their time tells nothing."""
    clock = asyncio.get_running_loop().time
    started, step = clock(), REFUSAL_STEP.total_seconds()
    try:
        yield
    except Problem as problem:
        if problem.code == "invalid-credentials":
            await asyncio.sleep(step - (clock() - started) % step)
        raise


def _session_response(session: Session) -> web.StreamResponse:
    return json_response(orjson.dumps(asdict(session)), headers=NO_STORE)
