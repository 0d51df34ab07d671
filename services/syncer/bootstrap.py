"""Opens what the syncer needs and joins it: the only place that knows every part."""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import aiohttp
from redis.asyncio import Redis

from services.syncer.after_commit import AfterCommit
from services.syncer.handlers.import_requested import ImportRequestedHandler
from services.syncer.handlers.lead_created import LeadCreatedHandler
from services.syncer.handlers.lead_deleted import LeadDeletedHandler
from services.syncer.handlers.lead_updated import LeadUpdatedHandler
from services.syncer.handlers.lead_upserted import LeadUpsertedHandler
from services.syncer.handlers.sync_requested import SyncRequestedHandler
from services.syncer.settings import SyncerSettings, SyncSettings
from services.syncer.sources import ExternalSource
from services.syncer.sources.randomuser import RandomUserSource
from services.syncer.storage.creation import LeadCreationRepository
from services.syncer.storage.deletion import LeadDeletionRepository
from services.syncer.storage.erasure import StreamErasure
from services.syncer.storage.imports import ImportRepository
from services.syncer.storage.update import LeadUpdateRepository
from services.syncer.storage.upsert import LeadUpsertRepository
from shared.cache.lead_cache import open_cache
from shared.events import catalog
from shared.events.data import (
    ImportRequested,
    LeadCreated,
    LeadDeleted,
    LeadUpdated,
    LeadUpserted,
    SyncRequested,
)
from shared.redis_connections import check_server, open_redis
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.inbox import EventStore
from shared.storage.lead_document import LeadRepository
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database, open_database
from shared.storage.sync_runs import SyncRunRepository
from shared.streams.consuming.subscription import Handler, Subscription
from shared.streams.imports import ImportFiles, ImportJobs
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import OncePublisher, open_publisher

# The most events in one transaction: larger ones gain little and make others wait longer.
BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncerContext:
    """What runs in a syncer and what it runs on."""

    database: Database
    redis: Redis
    subscriptions: tuple[Subscription, ...]
    dead_letters: DeadLetterRepository
    divisions: Divisions
    once: OncePublisher


@contextlib.asynccontextmanager
async def bootstrap(
    settings: SyncerSettings, *, source: ExternalSource | None = None
) -> AsyncGenerator[SyncerContext]:
    """Open everything, yield it joined, and close it again. `source` replaces the real one."""
    async with (
        open_database(settings.postgres) as database,
        open_redis(settings.streams) as redis,
        open_cache(settings.cache, default_url=settings.streams.url) as cache,
        open_publisher(redis, Divisions(redis, while_closed=True)) as publisher,
        aiohttp.ClientSession() as session,
    ):
        events = EventStore(database)
        divisions = Divisions(
            redis, PartitionRepository(database), partitions=settings.streams.stream_partitions
        )
        await check_server(redis, setting="REDIS_URL")
        await divisions.check_settings()
        once = OncePublisher(redis, divisions)
        chosen = source or RandomUserSource(session, str(settings.sync.randomuser_url))
        after_commit = AfterCommit(cache, publisher, StreamErasure(database, redis, divisions))
        handlers = _lead_handlers(database, after_commit)
        yield SyncerContext(
            database=database,
            redis=redis,
            subscriptions=(
                Subscription(
                    stream=catalog.LEADS,
                    group=catalog.SYNCER,
                    handlers=handlers,
                    is_settled=events.is_applied,
                    batch=BATCH,
                    also_trims=(catalog.CHANGES,),
                ),
                _syncs(chosen, once, SyncRunRepository(database), settings.sync),
                _imports(
                    database,
                    ImportFiles(redis),
                    ImportJobs(redis, divisions, max_bytes=settings.streams.stream_max_bytes),
                    handlers,
                ),
            ),
            dead_letters=DeadLetterRepository(database),
            divisions=divisions,
            once=once,
        )


def _syncs(
    source: ExternalSource, once: OncePublisher, runs: SyncRunRepository, settings: SyncSettings
) -> Subscription:
    on_sync_requested = SyncRequestedHandler(
        source, once, runs, results=settings.sync_results, timeout=settings.sync_timeout
    )
    return Subscription(
        stream=catalog.SYNC,
        group=catalog.SYNCER,
        handlers={SyncRequested.type: on_sync_requested},
        is_settled=runs.has_ended,
        deadline=settings.sync_timeout * 3,
    )


def _imports(
    database: Database, files: ImportFiles, jobs: ImportJobs, handlers: Mapping[str, Handler]
) -> Subscription:
    events = EventStore(database)
    on_import_requested = ImportRequestedHandler(
        files,
        jobs,
        ImportRepository(database),
        events,
        LeadRepository(database),
        handlers=handlers,
    )
    return Subscription(
        stream=catalog.IMPORTS,
        group=catalog.SYNCER,
        handlers={ImportRequested.type: on_import_requested},
        is_settled=events.is_applied,
        waits_for_others=True,
    )


def _lead_handlers(database: Database, after_commit: AfterCommit) -> Mapping[str, Handler]:
    return {
        LeadCreated.type: LeadCreatedHandler(LeadCreationRepository(database), after_commit),
        LeadUpdated.type: LeadUpdatedHandler(LeadUpdateRepository(database), after_commit),
        LeadUpserted.type: LeadUpsertedHandler(LeadUpsertRepository(database), after_commit),
        LeadDeleted.type: LeadDeletedHandler(LeadDeletionRepository(database), after_commit),
    }
