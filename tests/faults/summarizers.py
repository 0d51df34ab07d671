"""Summarizers as processes of their own, at work for a database, a Redis and a model of a test."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis
from yarl import URL

from shared.events import catalog
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from tests.faults.database import Tables
from tests.faults.streams import drained
from tests.faults.system import inherited
from tests.support.eventually import eventually
from tests.support.service_process import ServiceProcess, running_service
from tests.support.summaries import requested, stored_leads

SUMMARIZER = "services.summarizer"
CHUNK = 1_000

_ENDED = "SELECT count(*) FROM leads.summary WHERE state IN ('succeeded', 'failed')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarizers:
    """Where requests for summaries come in, and where summarizers look for them."""

    database: Database
    redis: Redis
    tables: Tables
    environment: Mapping[str, str]

    async def ask(self, number: int) -> None:
        """Store that many leads, and publish a request for each as the API does."""
        for start in range(0, number, CHUNK):
            leads = await stored_leads(self.database, min(CHUNK, number - start))
            await add_events(
                self.redis,
                [requested(lead, reply_to="reply:tests", requested_by="tests") for lead in leads],
            )

    async def has_ended(self, number: int, *, within: timedelta) -> None:
        """Wait until at least that many requests have come to an end."""

        async def enough() -> bool:
            ended = await self.tables.value(_ENDED)
            assert ended >= number, f"{ended} of {number} requests have ended"
            return True

        await eventually(enough, within=within)

    async def is_done(self, *, within: timedelta) -> None:
        """Wait until nothing is left to do, and fail if anything is dead then."""
        await drained(self.redis, stream=catalog.SUMMARIES, within=within)
        assert await self.tables.dead_letters() == []

    def summarizer(
        self, model: URL, *, module: str = SUMMARIZER, **changes: str
    ) -> AbstractAsyncContextManager[ServiceProcess]:
        """Run one for the length of the block, with the model at that address."""
        given = {"GROQ_BASE_URL": str(model), "GROQ_API_KEY": "gsk_tests"}
        return running_service(module, {**self.environment, **given, **changes})


def environment_of(*, postgres_dsn: str, redis_url: str) -> Mapping[str, str]:
    """Return what every summarizer is configured with."""
    return inherited() | {
        "ENV_FILE": "",
        "SUPABASE_CONNECTION_STRING": postgres_dsn,
        "REDIS_URL": redis_url,
        "STREAM_BLOCK": "0.2",
    }
