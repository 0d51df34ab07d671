"""Opens what the API needs and joins it: the only place that knows every part."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import httpx
from redis.asyncio import Redis

from services.api.auth.accounts import Accounts
from services.api.auth.client import open_client
from services.api.auth.keys import SigningKeys
from services.api.auth.verifier import TokenCache, TokenVerifier
from services.api.exchange import Exchange
from services.api.handlers.accounts import AccountHandlers
from services.api.handlers.admin.dead_letters import ACTOR, DeadLetterHandlers
from services.api.handlers.admin.doctor import DoctorHandlers
from services.api.handlers.admin.model import ModelHandlers
from services.api.handlers.admin.replays import ReplayHandlers
from services.api.handlers.admin.streams import StreamHandlers
from services.api.handlers.admin.syncs import SyncHandlers
from services.api.handlers.changes import ChangeHandlers
from services.api.handlers.documents import DocumentHandlers
from services.api.handlers.health import HealthHandlers
from services.api.handlers.lead_batches import LeadBatchHandlers
from services.api.handlers.lead_history import LeadHistoryHandlers
from services.api.handlers.lead_import import LeadImportHandlers
from services.api.handlers.lead_list import LeadExportHandlers, LeadListHandlers
from services.api.handlers.lead_writes import LeadWriteHandlers
from services.api.handlers.leads import LeadHandlers
from services.api.handlers.operations import OperationHandlers
from services.api.handlers.summaries import SummaryHandlers, SummaryProgress
from services.api.lead_lookup import AcceptedLeads, LeadLookup, LeadTargets
from services.api.server.limits import CallLimits, ClientAddresses, LoginLimits
from services.api.settings import ApiSettings, AuthSettings, HttpSettings
from services.api.storage.history import LeadHistory
from services.api.storage.lead_search import LeadSearch
from services.api.storage.operations import OperationRepository
from services.api.storage.rate_limits import RateLimits
from services.api.storage.replica import Reads, Replica
from services.api.storage.requests import RequestNotes
from services.api.storage.sign_outs import SignOuts
from services.api.web.headers import IdempotencyKeys
from shared.administration.dead_letters import DeadLetters
from shared.administration.doctor.examination import Doctor, DoctorSettings
from shared.administration.replays import ReplayRunner, Replays
from shared.background import background
from shared.cache.lead_cache import LeadCache, open_cache
from shared.events.catalog import LEADS
from shared.lifecycle import instance_name
from shared.observability.outages import Outages
from shared.redis_connections import check_server, open_redis
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.admin_log import AdminLog
from shared.storage.inbox import EventStore
from shared.storage.lead_document import LeadRepository
from shared.storage.lead_export import LeadExport
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database, open_database
from shared.storage.sync_runs import SyncRunRepository
from shared.streams.change_feed import ChangeFeed
from shared.streams.imports import ImportFiles, ImportJobs
from shared.streams.inspection import Inspector
from shared.streams.model_status import ModelStatuses
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import Publisher, check_writable, open_publisher
from shared.streams.replies import Replies
from shared.streams.troubles import Troubles

REPLY_BLOCK = timedelta(seconds=2)
# A guard may delay a request by so much; then the request passes.
GUARD_TIMEOUT = timedelta(milliseconds=100)
# A replay from the archive uses one for its whole length.
OPERATORS_CONNECTIONS = 4
# One that hangs must not keep another check waiting.
DOCTORS_CONNECTIONS = 10
API = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """What is open, and has to be closed."""

    database: Database
    replica: Replica
    operators: Database
    doctor: Doctor
    redis: Redis
    guard: Redis
    cache: LeadCache
    publisher: Publisher
    replies: Replies
    feed: ChangeFeed
    auth: httpx.AsyncClient
    runner: ReplayRunner
    divisions: Divisions
    outages: Outages


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What answers requests, what every request passes, and what has to stop before the end."""

    handlers: Sequence[object]
    verifier: TokenVerifier
    limits: CallLimits | None
    exchange: Exchange
    changes: ChangeHandlers
    health: HealthHandlers


@contextlib.asynccontextmanager
async def bootstrap(settings: ApiSettings, *, name: str | None = None) -> AsyncGenerator[Api]:
    """Open everything, yield it joined, and close it again; `name` is the process's."""
    outages = Outages()
    async with (
        open_database(settings.postgres, read_only=True) as database,
        _open_replica(settings) as replica,
        _open_for_operators(settings.postgres) as (operators, examined),
        open_redis(settings.streams) as redis,
        open_redis(settings.streams, block=REPLY_BLOCK) as reader,
        open_redis(_for_guards(settings.streams)) as guard,
        open_cache(settings.cache, default_url=settings.streams.url) as cache,
        open_publisher(
            redis,
            divisions := _divisions(redis, operators, settings.streams),
            max_bytes=settings.streams.stream_max_bytes,
            outages=outages,
        ) as publisher,
        open_client(timeout=settings.auth.auth_timeout) as auth,
    ):
        await check_server(redis, setting="REDIS_URL")
        await divisions.check_settings()
        clients = Clients(
            database=database,
            replica=Replica(database, replica, outages),
            operators=operators,
            doctor=Doctor(redis, examined, _for_doctor(settings)),
            redis=redis,
            guard=guard,
            cache=cache,
            publisher=publisher,
            divisions=divisions,
            replies=Replies(
                reader, instance=name or instance_name(API), block=REPLY_BLOCK, outages=outages
            ),
            feed=ChangeFeed(redis, reader, block=REPLY_BLOCK),
            auth=auth,
            runner=ReplayRunner(Replays(redis, operators), AdminLog(operators), actor=ACTOR),
            outages=outages,
        )
        keys, tokens = _keys(settings.auth, auth)
        api = _join(settings, clients, keys, tokens)
        async with (
            background(clients.replies.run(), name="replies"),
            background(api.changes.run(), name="changes"),
            background(keys.run(), name="signing keys"),
            background(api.health.watch(), name="health watch"),
            clients.runner.running(),
        ):
            yield api


@contextlib.asynccontextmanager
async def _open_for_operators(
    settings: PostgresSettings,
) -> AsyncGenerator[tuple[Database, Database]]:
    """Open a pool for what operators do, and one for the doctor, who makes all checks at once.

    No connection is made before one comes.
    """
    few = settings.model_copy(update={"postgres_pool_size": OPERATORS_CONNECTIONS})
    many = settings.model_copy(update={"postgres_pool_size": DOCTORS_CONNECTIONS})
    async with (
        open_database(few, name="operators") as operators,
        open_database(many, name="doctor") as examined,
    ):
        yield operators, examined


@contextlib.asynccontextmanager
async def _open_replica(settings: ApiSettings) -> AsyncGenerator[Database | None]:
    url = settings.replica.postgres_read_url
    if url is None:
        yield None
        return
    postgres = settings.postgres.model_copy(update={"supabase_connection_string": url})
    async with open_database(postgres, read_only=True, name="replica") as database:
        yield database


def _keys(settings: AuthSettings, client: httpx.AsyncClient) -> tuple[SigningKeys, TokenCache]:
    """Return the keys, and the tokens that are remembered as signed by them."""
    tokens = TokenCache()
    keys = SigningKeys(
        client,
        auth_url=settings.auth_url,
        key=settings.service_key,
        on_change=tokens.clear,
    )
    return keys, tokens


def _divisions(redis: Redis, database: Database, settings: StreamsSettings) -> Divisions:
    return Divisions(redis, PartitionRepository(database), partitions=settings.stream_partitions)


def _for_doctor(settings: ApiSettings) -> DoctorSettings:
    return DoctorSettings(
        streams=settings.streams,
        postgres=settings.postgres,
        replica=settings.replica,
        project=settings.auth,
    )


def _for_guards(settings: StreamsSettings) -> StreamsSettings:
    return settings.model_copy(update={"redis_timeout": GUARD_TIMEOUT})


def _join(settings: ApiSettings, clients: Clients, keys: SigningKeys, tokens: TokenCache) -> Api:
    notes = RequestNotes(clients.redis)
    exchange = Exchange(
        clients.publisher, clients.replies, notes, publish_timeout=settings.http.publish_timeout
    )
    addresses = ClientAddresses(hops=settings.limits.forwarded_hops)
    verifier, accounts = _join_auth(settings, clients, keys, tokens, addresses)
    health = _join_health(clients, exchange, verifier)
    changes = ChangeHandlers(
        clients.feed, timeout=settings.http.read_timeout, outages=clients.outages
    )
    return Api(
        handlers=(
            *_join_leads(settings.http, clients, exchange, notes),
            accounts,
            changes,
            health,
            DocumentHandlers(openapi=_openapi, asyncapi=_asyncapi),
            *_join_administration(settings.http, clients, exchange, notes),
        ),
        verifier=verifier,
        limits=CallLimits.of(partial(RateLimits, clients.guard), settings.limits, addresses),
        exchange=exchange,
        changes=changes,
        health=health,
    )


def _openapi() -> bytes:
    from services.api.documents import openapi_json  # noqa: PLC0415 (few processes are asked)

    return openapi_json()


def _asyncapi() -> bytes:
    from services.api.documents import asyncapi_json  # noqa: PLC0415 (few processes are asked)

    return asyncapi_json()


def _join_health(clients: Clients, exchange: Exchange, verifier: TokenVerifier) -> HealthHandlers:
    return HealthHandlers(
        {
            "postgres": LeadRepository(clients.database).check_readable,
            "redis": partial(check_writable, clients.redis),
            "replies": clients.replies.check,
            "auth": verifier.check_ready,
        },
        {
            "full": clients.publisher.check_room,
            "closed": partial(clients.divisions.check_open, LEADS),
            "late": partial(exchange.check_lateness, EventStore(clients.database)),
            "consumers": partial(Troubles(clients.redis).check, besides=API),
        },
        clients.outages,
        own=verifier.check_ready,
        tell=partial(Troubles(clients.redis).tell, clients.replies.instance, API),
    )


def _join_leads(
    http: HttpSettings, clients: Clients, exchange: Exchange, notes: RequestNotes
) -> Sequence[object]:
    leads = LeadRepository(clients.database)
    accepted = AcceptedLeads(notes, EventStore(clients.database), timeout=http.read_timeout)
    lookup = LeadLookup(clients.cache, leads, accepted, timeout=http.read_timeout)
    replica = clients.replica
    keys = IdempotencyKeys(notes, timeout=http.publish_timeout)
    targets = LeadTargets(lookup, cache=clients.cache, leads=leads)
    return (
        LeadHandlers(lookup),
        LeadListHandlers(
            Reads(replica, LeadSearch),
            settled_before=replica.settled,
            timeout=http.read_timeout,
            default_limit=http.list_default_limit,
        ),
        LeadExportHandlers(Reads(replica, LeadExport), settled_before=replica.settled),
        LeadWriteHandlers(exchange=exchange, keys=keys, targets=targets, settings=http),
        LeadBatchHandlers(exchange=exchange, keys=keys, targets=targets, settings=http),
        LeadImportHandlers(
            exchange=exchange, keys=keys, files=ImportFiles(clients.redis), settings=http
        ),
        SummaryHandlers(
            exchange=exchange,
            keys=keys,
            lookup=lookup,
            progress=SummaryProgress(
                exchange, LeadHistory(clients.database), timeout=http.summary_timeout
            ),
            summary_timeout=http.summary_timeout,
            body_timeout=http.body_timeout,
        ),
        LeadHistoryHandlers(
            lookup=lookup, history=Reads(replica, LeadHistory), timeout=http.read_timeout
        ),
        OperationHandlers(
            OperationRepository(clients.database),
            notes,
            ImportJobs(clients.redis),
            timeout=http.read_timeout,
        ),
    )


def _join_auth(
    settings: ApiSettings,
    clients: Clients,
    keys: SigningKeys,
    tokens: TokenCache,
    addresses: ClientAddresses,
) -> tuple[TokenVerifier, AccountHandlers]:
    auth = settings.auth
    accounts = Accounts(
        clients.auth,
        auth_url=auth.auth_url,
        key=auth.service_key,
        timeout=auth.auth_timeout,
    )
    verifier = TokenVerifier(
        keys,
        accounts,
        tokens,
        SignOuts(clients.guard),
        secret=auth.jwt_secret,
        issuers=auth.issuers,
    )
    handlers = AccountHandlers(
        accounts,
        verifier,
        LoginLimits(partial(RateLimits, clients.redis), settings.limits, addresses),
        settings=auth,
        body_timeout=settings.http.body_timeout,
    )
    return verifier, handlers


def _join_administration(
    http: HttpSettings, clients: Clients, exchange: Exchange, notes: RequestNotes
) -> Sequence[object]:
    return (
        StreamHandlers(Inspector(clients.redis, PartitionRepository(clients.database))),
        DeadLetterHandlers(
            DeadLetters(clients.redis, clients.operators), AdminLog(clients.operators)
        ),
        ReplayHandlers(
            Replays(clients.redis, clients.operators),
            clients.runner,
            body_timeout=http.body_timeout,
        ),
        SyncHandlers(
            exchange,
            SyncRunRepository(clients.database),
            notes,
            sync_timeout=http.summary_timeout,
            timeout=http.read_timeout,
        ),
        DoctorHandlers(clients.doctor),
        ModelHandlers(ModelStatuses(clients.redis)),
    )
