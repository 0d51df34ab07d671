"""The original's Postman collection: sent as it is, and answered as it was by the original."""

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from devstack.standins import supabase_auth
from devstack.standins.serving import running
from services.api.settings import ApiSettings, AuthSettings
from tests.support.api import running_api
from tests.support.repository import ROOT
from tests.support.request_files import Replay, postman_requests
from tests.support.summarizer import running_summarizer, summarizer_settings

# What the first version of this API was used with, and how it answered each request.
COLLECTION = ROOT / "tests/support/samples/original.postman_collection.json"
STATUSES = [200, 201, 200, 201, 200, 200, 200]


@pytest.fixture
async def anyone(
    api_settings: ApiSettings,
    syncer: None,  # noqa: ARG001 (creates are carried out)
    tmp_path: Path,
) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client of the whole system, with the original's idea of a password."""
    project = supabase_auth.SupabaseAuthSettings(data_dir=tmp_path)
    async with running(supabase_auth.create_app(project), project) as url:
        auth = AuthSettings(
            supabase_uri=str(url.origin()),
            supabase_key=SecretStr((tmp_path / "service_key").read_text()),
            password_min_length=4,
        )
        summarizer = summarizer_settings(api_settings.postgres, api_settings.streams)
        async with (
            running_summarizer(summarizer),
            running_api(replace(api_settings, auth=auth)) as client,
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
