"""An auth server that signs any token a test asks for, and fails on demand."""

import asyncio
import time
import warnings
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

USER_ID = "0b9c1f5e-6a3b-4e0f-9d53-b1b2a5c0ffee"
SECRET = "a-shared-secret-of-at-least-thirty-two-characters"

SigningKey = ECKey | RSAKey | OKPKey | OctKey


class AuthServer:
    """Serves keys at `/auth/v1/.well-known/jwks.json`, and checks tokens at `/auth/v1/user`."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "current", "use": "sig"})
        self.url = ""
        self._runner: web.AppRunner | None = None
        self.reset()

    def reset(self) -> None:
        """Be well, with the current key published."""
        self.published: list[SigningKey] = [self.key]
        self.is_down = False
        self.is_hanging = False
        self.valid_tokens: set[str] = set()
        self.asked_keys = 0
        self.asked_user = 0

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return a good token's claims, with changes; None leaves a claim out."""
        now = int(time.time())
        claims = {
            "iss": f"{self.url}/auth/v1",
            "sub": USER_ID,
            "aud": "authenticated",
            "exp": now + 3600,
            "iat": now,
            "email": "ada@example.com",
            "role": "authenticated",
            "aal": "aal1",
            "session_id": "5b7a7c0e-54a2-4a34-9a3b-6c8b8d1f0a11",
            "is_anonymous": False,
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        *,
        key: SigningKey | None = None,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """Return a signed token."""
        names = {"alg": "ES256", "kid": "current"} if header is None else header
        with warnings.catch_warnings():
            # Of the name EdDSA: an auth server may use it all the same.
            warnings.simplefilter("ignore", SecurityWarning)
            return jwt.encode(
                names, self.claims(**claims), key or self.key, algorithms=[names["alg"]]
            )

    def secret_token(self, **claims: Any) -> str:
        """Return a token of a project that signs with a shared secret."""
        return self.token(key=OctKey.import_key(SECRET), header={"alg": "HS256"}, **claims)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/auth/v1/.well-known/jwks.json", self._keys)
        app.router.add_get("/auth/v1/user", self._user)
        app.router.add_post("/auth/v1/logout", self._log_out)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _keys(self, _request: web.Request) -> web.Response:
        self.asked_keys += 1
        await self._misbehave()
        return web.json_response({"keys": [key.as_dict(private=False) for key in self.published]})

    async def _user(self, request: web.Request) -> web.Response:
        self.asked_user += 1
        await self._misbehave()
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.valid_tokens:
            return web.json_response(
                {"code": "bad_jwt", "message": "invalid JWT"},
                status=403,
                headers={"X-Supabase-Api-Version": "2024-01-01"},
            )
        return web.json_response(
            {
                "id": USER_ID,
                "aud": "authenticated",
                "role": "authenticated",
                "email": "ada@example.com",
                "app_metadata": {},
                "user_metadata": {},
                "identities": [],
                "created_at": "2026-01-01T00:00:00Z",
                "is_anonymous": False,
            }
        )

    async def _log_out(self, _request: web.Request) -> web.Response:
        await self._misbehave()
        return web.Response(status=204)

    async def _misbehave(self) -> None:
        if self.is_hanging:
            await asyncio.sleep(30)
        if self.is_down:
            raise web.HTTPServiceUnavailable(text="upstream connect error")
