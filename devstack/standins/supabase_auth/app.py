"""Joins the parts of the Supabase Auth stand-in."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from devstack.standins.serving import Control, install
from devstack.standins.supabase_auth.accounts import Accounts
from devstack.standins.supabase_auth.errors import refuse, word_errors
from devstack.standins.supabase_auth.gateway import Gateway
from devstack.standins.supabase_auth.handlers import Handlers
from devstack.standins.supabase_auth.keys import SigningKeys, open_api_keys, open_signing_key
from devstack.standins.supabase_auth.settings import SupabaseAuthSettings
from devstack.standins.supabase_auth.tokens import Tokens
from devstack.standins.supabase_auth.users import Users

HASHING_THREADS = 2
OWNER_ONLY_FOLDER = 0o700


def create_app(settings: SupabaseAuthSettings) -> web.Application:
    """Opens the data directory, creating what is not there yet."""
    settings.data_dir.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
    signing_key = open_signing_key(settings)
    keys = SigningKeys(signing_key)
    tokens = Tokens(keys, lifetime=settings.jwt_exp)
    gateway = Gateway(open_api_keys(settings, signing_key), tokens, rate_limit=settings.rate_limit)
    accounts = Accounts(settings.data_dir / "accounts.sqlite3")
    executor = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="scrypt")

    async def closing(_app: web.Application) -> AsyncIterator[None]:
        yield
        executor.shutdown(cancel_futures=True)
        accounts.close()

    app = web.Application(middlewares=[word_errors, gateway.require_key])
    app.cleanup_ctx.append(closing)
    Handlers(
        settings=settings,
        accounts=accounts,
        users=Users(accounts, settings, executor=executor),
        tokens=tokens,
        gateway=gateway,
        keys=keys,
    ).add_to(app.router)
    install(app, Control(settings.faults), refuse=refuse)
    return app
