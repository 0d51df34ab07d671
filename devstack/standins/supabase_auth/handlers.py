"""The endpoints under `/auth/v1`."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from devstack.standins.serving import require_loopback
from devstack.standins.supabase_auth.accounts import Accounts, User
from devstack.standins.supabase_auth.credentials import (
    Credentials,
    LinkParameters,
    NewUser,
    RefreshGrant,
    UserChanges,
    read,
)
from devstack.standins.supabase_auth.errors import AuthError, invalid
from devstack.standins.supabase_auth.gateway import Gateway
from devstack.standins.supabase_auth.keys import SigningKeys
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
    keys: SigningKeys

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post(f"{PREFIX}/signup", self.sign_up)
        router.add_post(f"{PREFIX}/token", self.token)
        router.add_get(f"{PREFIX}/user", self.user)
        router.add_post(f"{PREFIX}/logout", self.log_out)
        router.add_post(f"{PREFIX}/admin/users", self.create_user)
        router.add_get(f"{PREFIX}/admin/users", self.list_users)
        router.add_get(f"{PREFIX}/admin/users/{{id}}", self.show_user)
        router.add_put(f"{PREFIX}/admin/users/{{id}}", self.change_user)
        router.add_delete(f"{PREFIX}/admin/users/{{id}}", self.delete_user)
        router.add_post(f"{PREFIX}/admin/generate_link", self.make_link)
        router.add_get(f"{PREFIX}/.well-known/jwks.json", self.jwks)
        router.add_get(f"{PREFIX}/.well-known/openid-configuration", self.discover)
        router.add_get(f"{PREFIX}/health", self.health)
        router.add_get(f"{PREFIX}/settings", self.show_settings)
        # What the owner of a project does to its keys: on the platform, in the dashboard.
        router.add_post("/_control/keys/{change}", self.change_keys)

    async def sign_up(self, request: web.Request) -> web.Response:
        given = await read(request, Credentials)
        self._check_captcha(request, given)
        self.gateway.limit(request)
        user = await self.users.sign_up(given)
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

    async def show_user(self, request: web.Request) -> web.Response:
        return web.json_response(describe(self._named_user(request)))

    async def change_user(self, request: web.Request) -> web.Response:
        user = self._named_user(request)
        changed = await self.users.change(user, await read(request, UserChanges))
        return web.json_response(describe(changed))

    async def delete_user(self, request: web.Request) -> web.Response:
        self.accounts.delete(self._named_user(request).id)
        return web.json_response({})

    async def make_link(self, request: web.Request) -> web.Response:
        """Answers with what a confirmation e-mail has in it, and sends none."""
        self.gateway.require_admin(request)
        wanted = await read(request, LinkParameters)
        if wanted.type != "signup":
            raise invalid(f"Invalid email action link type requested: {wanted.type}")
        user = await self.users.add_unconfirmed(wanted)
        secret = secrets.token_hex(28)
        link = f"{request.url.origin()}{PREFIX}/verify?token={secret}&type=signup"
        return web.json_response(
            {
                **describe(user),
                "action_link": link,
                "email_otp": f"{secrets.randbelow(10**6):06}",
                "hashed_token": secret,
                "verification_type": "signup",
                "redirect_to": "",
            }
        )

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
            {"keys": self.keys.published()}, headers={"Cache-Control": JWKS_CACHE}
        )

    async def discover(self, request: web.Request) -> web.Response:
        issuer = self._issuer(request)
        return web.json_response(
            {"issuer": issuer, "jwks_uri": f"{issuer}/.well-known/jwks.json"},
            headers={"Cache-Control": JWKS_CACHE},
        )

    async def change_keys(self, request: web.Request) -> web.Response:
        changes: dict[str, Callable[[], None]] = {
            "add-standby": self.keys.add_standby,
            "rotate": self.keys.rotate,
            "revoke": self.keys.revoke,
        }
        require_loopback(request)
        change = changes.get(request.match_info["change"])
        if change is None:
            raise web.HTTPNotFound
        change()
        return web.json_response({"signing": self.keys.signing.key_id})

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
                "external": {
                    "anonymous_users": False,
                    "email": self.settings.email_enabled,
                    "phone": False,
                },
                "disable_signup": not self.settings.signup_enabled,
                "mailer_autoconfirm": self.settings.autoconfirm,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
            }
        )

    async def _password_grant(self, request: web.Request) -> web.Response:
        given = await read(request, Credentials)
        self._check_captcha(request, given)
        self.gateway.limit(request)
        if given.email and given.phone:
            raise invalid("Only an email address or phone number should be provided on login.")
        if given.phone:
            raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
        if not given.email:
            raise invalid("missing email or phone")
        return self._grant(request, await self.users.log_in(given))

    async def _refresh_grant(self, request: web.Request) -> web.Response:
        given = await read(request, RefreshGrant)
        self.gateway.limit(request)
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
        if self.accounts.is_banned(user.id):
            raise AuthError(403, "user_banned", "User is banned")
        return bearer, user

    def _named_user(self, request: web.Request) -> User:
        self.gateway.require_admin(request)
        user = self.accounts.by_id(request.match_info["id"])
        if user is None:
            raise AuthError(404, "user_not_found", "User not found")
        return user

    def _check_captcha(self, request: web.Request, given: Credentials) -> None:
        wanted = self.settings.captcha_token
        if wanted is None or self.gateway.is_admin(request):
            return
        if given.gotrue_meta_security.get("captcha_token") != wanted:
            raise AuthError(
                400, "captcha_failed", "captcha protection: request disallowed (invalid-token)"
            )

    def _issuer(self, request: web.Request) -> str:
        return f"{self.settings.origin or request.url.origin()}{PREFIX}"


def _positive(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise invalid(f"Bad Pagination Parameters: {name} must be a positive number")
    return int(text)
