"""What still works, and how soon one learns, when a dependency is down."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import httpx
import orjson
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from devstack.free_ports import free_port
from services.api.settings import ApiSettings
from shared.cache.lead_cache import open_cache
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from shared.streams.codec import decode
from tests.support.api import running_api
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.partitions import lead_entries
from tests.support.silent_server import SilentServer
from tests.support.stored_leads import store_lead

PROMISE = timedelta(seconds=2)

Break = Callable[[ApiSettings, int], ApiSettings]


@pytest.fixture(params=["refused", "silent"])
async def nowhere(request: pytest.FixtureRequest, silent_server: SilentServer) -> int:
    """Return a port where nothing listens, or where something accepts and never answers."""
    return silent_server.port if request.param == "silent" else free_port()


@contextmanager
def kept_promise() -> Generator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < PROMISE.total_seconds()


def without_redis(settings: ApiSettings, port: int) -> ApiSettings:
    return replace(
        settings, streams=StreamsSettings(redis_url=SecretStr(f"redis://127.0.0.1:{port}"))
    )


def without_cache(settings: ApiSettings, port: int) -> ApiSettings:
    cache = CacheSettings(cache_redis_url=SecretStr(f"redis://127.0.0.1:{port}"))
    return replace(settings, cache=cache)


def without_postgres(settings: ApiSettings, port: int) -> ApiSettings:
    dsn = SecretStr(f"postgresql://postgres:x@127.0.0.1:{port}/leads")
    return replace(settings, postgres=PostgresSettings(supabase_connection_string=dsn))


@pytest.fixture
async def lead(database: Database, cache_settings: CacheSettings, redis_url: str) -> dict[str, str]:
    """Return a lead that is stored and cached."""
    stored = await store_lead(database)
    async with open_cache(cache_settings, default_url=redis_url) as cache:
        await cache.put([stored])
    lead: dict[str, str] = orjson.loads(stored.json)
    return lead


async def test_without_redis_writes_are_refused_in_time_and_reads_go_on(
    nowhere: int, lead: dict[str, str], api_settings: ApiSettings, auth: AuthServer
) -> None:
    settings = without_redis(api_settings, nowhere)
    async with running_api(settings, token=auth.token()) as api:
        for method, path, body in (
            ("POST", "/leads", lead_body()),
            ("POST", f"/leads/{lead['id']}/summary", None),
        ):
            with kept_promise():
                response = await api.request(method, path, json=body)
            assert (response.status_code, response.json()["code"]) == (503, "unavailable")
            assert "Retry-After" in response.headers
        for key in (lead["id"], lead["externalId"]):
            with kept_promise():
                assert (await api.get(f"/leads/{key}")).json() == lead
        with kept_promise():
            assert (await api.get("/leads")).json() == [lead]


async def test_without_redis_nobody_can_tell_whether_a_lead_was_accepted(
    nowhere: int, api_settings: ApiSettings, auth: AuthServer
) -> None:
    settings = without_redis(api_settings, nowhere)
    async with running_api(settings, token=auth.token()) as api:
        for method, body in (("PATCH", {"city": "Rome"}), ("DELETE", None), ("GET", None)):
            with kept_promise():
                response = await api.request(method, f"/leads/{uuid4()}", json=body)
            assert (response.status_code, response.json()["code"]) == (503, "unavailable")
            assert "Retry-After" in response.headers


async def test_without_postgresql_upserts_are_accepted_and_other_writes_want_the_lead(
    nowhere: int, lead: dict[str, str], api_settings: ApiSettings, auth: AuthServer, redis: Redis
) -> None:
    settings = without_postgres(api_settings, nowhere)
    headers = {"Prefer": "respond-async"}
    async with running_api(settings, token=auth.token()) as api:
        unknown, body = str(uuid4()), lead_body(externalId=None)
        for external_id in (unknown, lead["externalId"]):
            with kept_promise():
                path = f"/leads/by-external-id/{external_id}"
                assert (await api.put(path, json=body, headers=headers)).status_code == 202
        with kept_promise():
            rows = {"mode": "upsert", "leads": [body | {"externalId": unknown}]}
            assert (await api.post("/leads/batch", json=rows, headers=headers)).status_code == 207
        with kept_promise():
            # Whether it is stored by now cannot be told.
            assert (await api.patch(f"/leads/{unknown}", json={})).status_code == 503
        with kept_promise():
            path = f"/leads/{lead['id']}"
            assert (await api.patch(path, json={}, headers=headers)).status_code == 202
    events = [decode(entry.fields) for entry in await lead_entries(redis)]
    known = lead["externalId"]
    assert [event.key for event in events] == [unknown, known, unknown, known]


async def test_without_the_cache_reads_come_from_postgresql(
    nowhere: int, lead: dict[str, str], api_settings: ApiSettings, auth: AuthServer
) -> None:
    settings = without_cache(api_settings, nowhere)
    async with running_api(settings, token=auth.token()) as api:
        for key in (lead["id"], lead["externalId"]):
            with kept_promise():
                assert (await api.get(f"/leads/{key}")).json() == lead


async def test_without_postgresql_the_cache_still_answers_and_creates_are_accepted(
    nowhere: int, lead: dict[str, str], api_settings: ApiSettings, auth: AuthServer
) -> None:
    settings = without_postgres(api_settings, nowhere)
    async with running_api(settings, token=auth.token()) as api:
        for key in (lead["id"], lead["externalId"]):
            with kept_promise():
                assert (await api.get(f"/leads/{key}")).json() == lead
        for path in (f"/leads/{uuid4()}", "/leads", f"/operations/{uuid4()}"):
            with kept_promise():
                assert (await api.get(path)).status_code == 503
        assert (await api.post("/leads", json=lead_body())).status_code == 202


class TestReadiness:
    async def test_a_process_that_can_work_says_so(self, api: httpx.AsyncClient) -> None:
        async def is_told() -> bool:
            response = await api.get("/health/ready")
            assert (response.status_code, response.json()) == (
                200,
                {
                    "status": "ok",
                    "checks": {"postgres": "ok", "redis": "ok", "replies": "ok", "auth": "ok"},
                    "warnings": [],
                },
            )
            return True

        await eventually(is_told)

    @pytest.mark.parametrize(
        ("break_", "check"), [(without_redis, "redis"), (without_postgres, "postgres")]
    )
    async def test_an_outage_is_shown_and_its_reason_logged(
        self,
        break_: Break,
        check: str,
        nowhere: int,
        api_settings: ApiSettings,
    ) -> None:
        async with running_api(break_(api_settings, nowhere)) as api:
            with kept_promise():
                response = await api.get("/health/ready")
            assert response.status_code == 503
            assert response.json()["checks"][check] == "unavailable"
            assert str(nowhere) not in response.text

    async def test_an_auth_server_that_never_answered_is_shown(
        self, api_settings: ApiSettings, auth: AuthServer
    ) -> None:
        auth.is_down = True
        async with running_api(api_settings) as api:
            response = await api.get("/health/ready")
            assert response.json()["checks"]["auth"] == "unavailable"

    async def test_being_alive_depends_on_nothing(
        self, nowhere: int, api_settings: ApiSettings
    ) -> None:
        settings = without_postgres(without_redis(api_settings, nowhere), nowhere)
        async with running_api(settings) as api:
            response = await api.get("/health")
            assert (response.status_code, response.json()) == (200, {"status": "ok"})
