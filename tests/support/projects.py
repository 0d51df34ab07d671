"""A Supabase project's tokens as the API verifies them."""

from collections.abc import Callable
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from services.api.auth.accounts import Accounts
from services.api.auth.keys import SigningKeys
from services.api.auth.verifier import TokenCache, TokenVerifier
from services.api.settings import AuthSettings
from services.api.storage.sign_outs import SignOuts
from tests.support.auth_server import AuthServer


@dataclass(frozen=True, slots=True)
class Project:
    """The parts that know the project."""

    keys: SigningKeys
    verifier: TokenVerifier


OpenProject = Callable[..., Project]


class NoSignOuts(SignOuts):
    """Knows of no session that is over."""

    def __init__(self) -> None:
        """Need no Redis."""

    async def note_session(self, session: str) -> None:
        raise NotImplementedError

    async def is_over(self, session: str) -> bool:  # noqa: ARG002 (none is)
        return False


def open_project(
    auth: AuthServer, http: httpx.AsyncClient, *, secret: str | None = None
) -> Project:
    """Join the parts that verify the tokens of the auth server's project."""
    settings = AuthSettings(supabase_uri=auth.url, supabase_key=SecretStr("sb_secret_tests"))
    known = TokenCache()
    key = settings.service_key
    keys = SigningKeys(http, auth_url=settings.auth_url, key=key, on_change=known.clear)
    accounts = Accounts(
        http,
        auth_url=settings.auth_url,
        key=key,
        timeout=settings.auth_timeout,
    )
    verifier = TokenVerifier(
        keys, accounts, known, NoSignOuts(), secret=secret, issuers=settings.issuers
    )
    return Project(keys, verifier)
