"""The endpoints under `/auth/v1`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from devstack.standins.supabase_auth.accounts import Accounts, User
from devstack.standins.supabase_auth.credentials import Credentials, NewUser, RefreshGrant, read
from devstack.standins.supabase_auth.errors import AuthError, invalid
from devstack.standins.supabase_auth.gateway import Gateway
from devstack.standins.supabase_auth.keys import SigningKey
from devstack.standins.supabase_auth.settings import SupabaseAuthSettings
from devstack.standins.supabase_auth.tokens import AUDIENCE, Bearer, Tokens, describe
from devstack.standins.supabase_auth.users import Users

PREFIX = "/auth/v1"
PAGE_SIZE = 50
JWKS_CACHE = "public, max-age=600"


@dataclass(frozen=True, slots=True)
class Handlers:
    """Answers in the service's shapes; errors are worded by the middleware."""

    settings: SupabaseAuthSettings
    accounts: Accounts
    users: Users
    tokens: Tokens
    gateway: Gateway
    signing_key: SigningKey

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post(f"{PREFIX}/signup", self.sign_up)
        router.add_post(f"{PREFIX}/token", self.token)
        router.add_get(f"{PREFIX}/user", self.user)
        router.add_post(f"{PREFIX}/logout", self.log_out)
        router.add_post(f"{PREFIX}/admin/users", self.create_user)
        router.add_get(f"{PREFIX}/admin/users", self.list_users)
        router.add_get(f"{PREFIX}/.well-known/jwks.json", self.jwks)
        router.add_get(f"{PREFIX}/health", self.health)
        router.add_get(f"{PREFIX}/settings", self.show_settings)

    async def sign_up(self, request: web.Request) -> web.Response:
        user = await self.users.sign_up(await read(request, Credentials))
        if user.confirmed_at is None:
            return web.json_response(describe(user))
        return self._grant(request, user)

    async def token(self, request: web.Request) -> web.Response:
        grants: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "password": self._password_grant,
            "refresh_token": self._refresh_grant,
        }
        grant = grants.get(request.query.get("grant_type", ""))
        if grant is None:
            raise AuthError(400, "invalid_credentials", "unsupported_grant_type")
        return await grant(request)

    async def user(self, request: web.Request) -> web.Response:
        _, user = self._bearer(request)
        return web.json_response(describe(user))

    async def log_out(self, request: web.Request) -> web.Response:
        bearer, user = self._bearer(request)
        match request.query.get("scope") or "global":
            case "global":
                self.accounts.end_sessions(user.id)
            case "local":
                self.accounts.end_session(bearer.session_id)
            case "others":
                self.accounts.end_sessions(user.id, but=bearer.session_id)
            case scope:
                raise invalid(f'Unsupported logout scope "{scope}"')
        return web.Response(status=204)

    async def create_user(self, request: web.Request) -> web.Response:
        self.gateway.require_admin(request)
        return web.json_response(describe(await self.users.create(await read(request, NewUser))))

    async def list_users(self, request: web.Request) -> web.Response:
        self.gateway.require_admin(request)
        page = self.accounts.page(
            number=_positive(request, "page", 1), size=_positive(request, "per_page", PAGE_SIZE)
        )
        return web.json_response(
            {"users": [describe(user) for user in page], "aud": AUDIENCE},
            headers={"X-Total-Count": str(self.accounts.count())},
        )

    async def jwks(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"keys": self.signing_key.public_keys()}, headers={"Cache-Control": JWKS_CACHE}
        )

    async def health(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "version": "stand-in",
                "name": "GoTrue",
                "description": "GoTrue is a user registration and authentication API",
            }
        )

    async def show_settings(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "external": {"anonymous_users": False, "email": True, "phone": False},
                "disable_signup": not self.settings.signup_enabled,
                "mailer_autoconfirm": self.settings.autoconfirm,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
            }
        )

    async def _password_grant(self, request: web.Request) -> web.Response:
        given = await read(request, Credentials)
        if given.email and given.phone:
            raise invalid("Only an email address or phone number should be provided on login.")
        if given.phone:
            raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
        if not given.email:
            raise invalid("missing email or phone")
        return self._grant(request, await self.users.log_in(given))

    async def _refresh_grant(self, request: web.Request) -> web.Response:
        given = await read(request, RefreshGrant)
        if not given.refresh_token:
            raise invalid("refresh_token required")
        session = self.accounts.refresh(
            given.refresh_token, reuse_interval=self.settings.refresh_token_reuse_interval
        )
        return web.json_response(self.tokens.grant(session, issuer=self._issuer(request)))

    def _grant(self, request: web.Request, user: User) -> web.Response:
        session = self.accounts.start_session(user.id)
        return web.json_response(self.tokens.grant(session, issuer=self._issuer(request)))

    def _bearer(self, request: web.Request) -> tuple[Bearer, User]:
        bearer = self.gateway.user(request)
        user = self.accounts.by_id(bearer.user_id)
        if user is None:
            raise AuthError(403, "user_not_found", "User from sub claim in JWT does not exist")
        if not self.accounts.has_session(bearer.session_id):
            raise AuthError(
                403,
                "session_not_found",
                "Session from session_id claim in JWT does not exist",
            )
        return bearer, user

    def _issuer(self, request: web.Request) -> str:
        return f"{self.settings.origin or request.url.origin()}{PREFIX}"


def _positive(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise invalid(f"Bad Pagination Parameters: {name} must be a positive number")
    return int(text)
