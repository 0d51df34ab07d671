"""An operator's client of the API in this process, and what operators find."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr

from services.api.settings import ApiSettings
from shared.events import catalog
from shared.events.dead_letter import DeadLetter
from shared.events.envelope import Event
from shared.storage.admin_log import AdminAction, AdminLog
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.pool import Database
from shared.streams.codec import encode
from tests.support.api import running_api

KEY = "correct-horse-battery-staple"


@pytest.fixture
def settings(api_settings: ApiSettings) -> ApiSettings:
    http = api_settings.http.model_copy(update={"api_key": SecretStr(KEY)})
    return replace(api_settings, http=http)


@pytest.fixture
async def operator(settings: ApiSettings) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield an operator's client; no syncer runs."""
    async with running_api(settings) as client:
        client.headers["X-API-Key"] = KEY
        yield client


@pytest.fixture
def letters(database: Database) -> DeadLetterRepository:
    return DeadLetterRepository(database)


async def actions(database: Database) -> list[AdminAction]:
    return await AdminLog(database).latest(limit=100)


async def keep(
    letters: DeadLetterRepository, events: Sequence[Event], *, reason: str = "attempts"
) -> None:
    for event in events:
        await letters.add_letter(
            DeadLetter(
                group=catalog.SYNCER,
                event_id=str(event.id),
                stream=catalog.LEADS,
                entry_id="1-1",
                type=event.type,
                reason=reason,
                error="TransientError: not today",
                attempts=5,
                fields={str(name): str(value) for name, value in encode(event).items()},
            )
        )
