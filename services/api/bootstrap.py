"""Opens what the API needs and joins it: the only place that knows every part."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta

import httpx
from redis.asyncio import Redis

from services.api.auth.accounts import Accounts
from services.api.auth.keys import SigningKeys
from services.api.auth.token_cache import TokenCache
from services.api.auth.verifier import TokenVerifier
from services.api.exchange import Exchange
from services.api.handlers.accounts import AccountHandlers
from services.api.handlers.health import HealthHandlers
from services.api.handlers.leads import LeadHandlers
from services.api.handlers.operations import OperationHandlers
from services.api.handlers.summaries import SummaryHandlers
from services.api.lead_lookup import LeadLookup
from services.api.settings import ApiSettings
from shared.background import background
from shared.cache.lead_cache import LeadCache, open_cache
from shared.lifecycle import instance_name
from shared.storage.lead_repository import LeadRepository
from shared.storage.operation_repository import OperationRepository
from shared.storage.pool import Database, open_database
from shared.streams.accepted import AcceptedEvents
from shared.streams.connection import open_redis, ping
from shared.streams.publisher import Publisher, open_publisher
from shared.streams.replies import Replies

REPLY_BLOCK = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """What answers requests."""

    verifier: TokenVerifier
    exchange: Exchange
    accounts: AccountHandlers
    leads: LeadHandlers
    summaries: SummaryHandlers
    operations: OperationHandlers
    health: HealthHandlers


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """What is open, and has to be closed."""

    database: Database
    redis: Redis
    cache: LeadCache
    publisher: Publisher
    replies: Replies
    auth: httpx.AsyncClient


@contextlib.asynccontextmanager
async def bootstrap(settings: ApiSettings) -> AsyncGenerator[ApiContext]:
    """Open everything, yield it joined, and close it again."""
    seconds = settings.auth.auth_timeout.total_seconds()
    async with (
        open_database(settings.postgres, read_only=True) as database,
        open_redis(settings.streams) as redis,
        open_redis(settings.streams, block=REPLY_BLOCK) as reader,
        open_cache(settings.cache, default_url=settings.streams.url) as cache,
        open_publisher(redis) as publisher,
        httpx.AsyncClient(timeout=seconds) as auth,
    ):
        clients = Clients(
            database=database,
            redis=redis,
            cache=cache,
            publisher=publisher,
            replies=Replies(reader, instance=instance_name("api"), block=REPLY_BLOCK),
            auth=auth,
        )
        tokens = TokenCache()
        keys = SigningKeys(auth, auth_url=settings.auth.auth_url, on_change=tokens.clear)
        async with (
            background(clients.replies.run(), name="replies"),
            background(keys.run(), name="signing keys"),
        ):
            yield _join(settings, clients, keys, tokens)


def _join(
    settings: ApiSettings, clients: Clients, keys: SigningKeys, tokens: TokenCache
) -> ApiContext:
    http, auth = settings.http, settings.auth
    leads = LeadRepository(clients.database)
    lookup = LeadLookup(clients.cache, leads, timeout=http.read_timeout)
    accepted = AcceptedEvents(clients.redis)
    exchange = Exchange(
        clients.publisher, clients.replies, accepted, publish_timeout=http.publish_timeout
    )
    accounts = Accounts(
        clients.auth,
        auth_url=auth.auth_url,
        key=auth.supabase_key.get_secret_value(),
        timeout=auth.auth_timeout,
    )
    verifier = TokenVerifier(keys, accounts, tokens, secret=auth.jwt_secret, issuers=auth.issuers)
    return ApiContext(
        verifier=verifier,
        exchange=exchange,
        accounts=AccountHandlers(accounts, auth, body_timeout=http.body_timeout),
        leads=LeadHandlers(exchange=exchange, lookup=lookup, leads=leads, settings=http),
        summaries=SummaryHandlers(
            exchange=exchange, lookup=lookup, summary_timeout=http.summary_timeout
        ),
        operations=OperationHandlers(
            OperationRepository(clients.database), accepted, timeout=http.read_timeout
        ),
        health=HealthHandlers(
            {
                "postgres": clients.database.ping,
                "redis": lambda: ping(clients.redis),
                "replies": clients.replies.check,
                "auth": verifier.check,
            }
        ),
    )
