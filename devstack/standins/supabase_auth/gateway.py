"""The API gateway in front of Supabase Auth: no request without one of the project's keys."""

import re
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from devstack.standins.supabase_auth.errors import AuthError, GatewayError
from devstack.standins.supabase_auth.keys import ApiKeys, Role
from devstack.standins.supabase_auth.tokens import Bearer, Tokens, missing_subject

OPEN_PATHS = {
    "/auth/v1/.well-known/jwks.json",
    "/auth/v1/.well-known/openid-configuration",
}
SENDER = "Sb-Forwarded-For"
# Seconds until an empty bucket is full again.
REFILL = 300.0
_BEARER = re.compile(r"[Bb]earer (\S+)")


class Gateway:
    """Identifies the caller: an application by its API key, a user by a token."""

    def __init__(self, keys: ApiKeys, tokens: Tokens, *, rate_limit: int | None) -> None:
        self._keys = keys
        self._tokens = tokens
        self._bucket_size = rate_limit
        self._buckets: dict[str, tuple[float, float]] = {}

    @web.middleware
    async def require_key(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/auth/v1") and request.path not in OPEN_PATHS:
            self._role_of_key(request)
        return await handler(request)

    def user(self, request: web.Request) -> Bearer:
        """The user whose access token came along."""
        token = self._user_token(request)
        if token is None or self._keys.role(token) is not None:
            raise missing_subject()
        return self._tokens.verify(token)

    def require_admin(self, request: web.Request) -> None:
        token = self._user_token(request)
        if token is None:
            role: Role | None = self._role_of_key(request)
        elif (role := self._keys.role(token)) is None:
            self._tokens.verify(token)
        if role != "service_role":
            raise AuthError(403, "not_admin", "User not allowed")

    def is_admin(self, request: web.Request) -> bool:
        try:
            self.require_admin(request)
        except AuthError:
            return False
        return True

    def limit(self, request: web.Request) -> None:
        """Raises `AuthError` for one request too many from an address.

        Only with the secret key a caller is believed whom it sends the request for.
        """
        if self._bucket_size is None:
            return
        address = request.remote or ""
        if self._role_of_key(request) == "service_role":
            address = request.headers.get(SENDER, address)
        now, size = time.monotonic(), float(self._bucket_size)
        left, since = self._buckets.get(address, (size, now))
        left = min(size, left + (now - since) * size / REFILL)
        if left < 1:
            raise AuthError(429, "over_request_rate_limit", "Request rate limit reached")
        self._buckets[address] = (left - 1, now)

    def _role_of_key(self, request: web.Request) -> Role:
        presented = request.headers.get("apikey") or request.query.get("apikey")
        if not presented:
            raise GatewayError(
                "No API key found in request",
                "No `apikey` request header or url param was found.",
            )
        if (role := self._keys.role(presented)) is None:
            raise GatewayError(
                "Invalid API key",
                "Double check your Supabase `anon` or `service_role` API key.",
            )
        return role

    def _user_token(self, request: web.Request) -> str | None:
        """The bearer token, or None where the gateway puts the API key's role in its place."""
        header = request.headers.get("Authorization")
        if header is None or header.startswith("Bearer sb_"):
            return None
        if (match := _BEARER.fullmatch(header)) is None:
            raise AuthError(401, "no_authorization", "This endpoint requires a Bearer token")
        return match[1]
