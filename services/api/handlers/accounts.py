"""`/authentication`: sign-up and log-in."""

from dataclasses import asdict
from datetime import timedelta

import orjson
from aiohttp import web

from services.api.auth.accounts import Accounts
from services.api.problems import Problem
from services.api.request_body import read_json_object
from services.api.responses import json_response
from services.api.routing import Call
from services.api.schemas import Credentials, check_new_password, parse
from services.api.settings import AuthSettings

# Tokens are for the caller's eyes, not for any cache on the way.
NO_STORE = {"Cache-Control": "no-store"}


class AccountHandlers:
    """Accounts of the Supabase project."""

    def __init__(
        self, accounts: Accounts, settings: AuthSettings, *, body_timeout: timedelta
    ) -> None:
        self._accounts = accounts
        self._settings = settings
        self._body_timeout = body_timeout

    async def sign_up(self, call: Call) -> web.StreamResponse:
        """POST /authentication/signup."""
        if self._settings.signup_mode == "closed":
            raise Problem("sign-up-closed", "New accounts are not accepted")
        credentials = await self._credentials(call)
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
        credentials = await self._credentials(call)
        session = await self._accounts.log_in(
            credentials.email, credentials.password.get_secret_value()
        )
        return json_response(orjson.dumps(asdict(session)), headers=NO_STORE)

    async def _credentials(self, call: Call) -> Credentials:
        body = await read_json_object(call.request, within=self._body_timeout)
        return parse(Credentials, body)
