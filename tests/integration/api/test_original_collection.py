"""Clients of the original: its Postman collection, and what settings restore for them."""

import json
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from devstack.standins import supabase_auth
from devstack.standins.serving import running
from services.api.settings import ApiSettings, AuthSettings, HttpSettings, LimitSettings
from shared.settings import SettingsGroup
from shared.storage.pool import Database
from tests.support.api import running_api
from tests.support.builders import lead_body
from tests.support.repository import ROOT
from tests.support.request_files import Replay, postman_requests
from tests.support.summarizer import running_summarizer, summarizer_settings

# What the first version of this API was used with, and how it answered each request.
COLLECTION = ROOT / "tests/support/samples/original.postman_collection.json"
STATUSES = [200, 201, 200, 201, 200, 200, 200]
PAGE = (ROOT / "docs/from-the-original.md").read_text()
_MANY = """
    INSERT INTO leads.lead (id, first_name, last_name, email, email_key, source, created_at,
                            updated_at)
    SELECT gen_random_uuid(), 'Ada', 'Lovelace', n || '@example.com', n || '@example.com',
           'import', now(), now()
    FROM generate_series(1, 700) AS n
"""


def among(group: type[SettingsGroup], given: dict[str, str]) -> dict[str, str]:
    """Return those settings that are of a group."""
    return {name: value for name, value in given.items() if name in group.model_fields}


@pytest.fixture
async def anyone(
    api_settings: ApiSettings,
    syncer: None,  # noqa: ARG001 (creates are carried out)
    tmp_path: Path,
) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client of the whole system, with the settings of the page for its clients."""
    restored = {
        name.lower(): value for name, value in re.findall("^([A-Z_]+)=(.*)$", PAGE, re.MULTILINE)
    }
    # As the project of the original's example must have been set.
    project = supabase_auth.SupabaseAuthSettings(data_dir=tmp_path, password_min_length=4)
    async with running(supabase_auth.create_app(project), project) as url:
        settings = replace(
            api_settings,
            http=HttpSettings.model_validate(
                {"port": 0, "api_host": "127.0.0.1", **among(HttpSettings, restored)}
            ),
            auth=AuthSettings.model_validate(
                {
                    "supabase_uri": str(url.origin()),
                    "supabase_key": (tmp_path / "service_key").read_text(),
                    **among(AuthSettings, restored),
                }
            ),
            limits=LimitSettings.model_validate(among(LimitSettings, restored)),
        )
        summarizer = summarizer_settings(api_settings.postgres, api_settings.streams)
        async with (
            running_summarizer(summarizer),
            running_api(settings) as client,
        ):
            yield client


async def test_it_is_answered_as_it_was(anyone: httpx.AsyncClient) -> None:
    replay = Replay(anyone, baseUrl="")
    requests = postman_requests(json.loads(COLLECTION.read_text()))
    answers = [await replay.send(request) for request in requests]

    assert [answer.status_code for answer in answers] == STATUSES
    lead = answers[3].json()
    assert lead.items() >= {"firstName": "Svitolyub", "phone": "(067) T38-6980"}.items()
    assert answers[4].json() == [lead]
    assert answers[5].json() == lead
    assert answers[6].json()["nextAction"]


async def test_settings_restore_what_they_say(
    anyone: httpx.AsyncClient, database: Database
) -> None:
    account = {"email": "ada@example.com", "password": "test", "role": "admin"}
    assert (await anyone.post("/authentication/signup", json=account)).status_code == 201
    session = (await anyone.post("/authentication/login", json=account)).json()
    anyone.headers["Authorization"] = f"Bearer {session['access_token']}"
    async with database.connection() as connection:
        await connection.execute(_MANY)
    created = await anyone.post("/lead?_=1732440612", json=lead_body(score=7))
    assert created.status_code == 201
    listed = await anyone.get("/leads?_=1732440613&page=1")
    assert len(listed.json()) == 701
    assert listed.json()[0] == created.json()
    assert not {"Link", "RateLimit"} & listed.headers.keys()
