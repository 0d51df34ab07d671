"""Lists come from a replica, and whatever has to be fresh, or is to have no gaps, does not."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from yarl import URL

from devstack.data_directory import scratch_directory
from devstack.free_ports import free_port
from devstack.servers.postgres import EmbeddedPostgres
from services.api.settings import ApiSettings
from shared.administration.doctor.diagnosis import Finding, Severity
from shared.administration.doctor.replica_facts import examine_replica
from shared.settings import PostgresSettings, ReplicaSettings
from shared.storage.pool import Database
from tests.support.api import RunSyncer, running_api
from tests.support.auth_server import AuthServer
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.fresh_databases import NAME
from tests.support.lead_table import insert_lead
from tests.support.outage_log import outage_lines
from tests.support.postgres_replica import PostgresReplica
from tests.support.tcp_proxy import TcpProxy

LONG_AGO = "2020-01-01T00:00:00Z"

Open = Callable[[str], AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="module")
async def replica(postgres: EmbeddedPostgres) -> AsyncGenerator[PostgresReplica]:
    with scratch_directory() as directory:
        async with PostgresReplica(directory, postgres) as running:
            yield running


@pytest.fixture
async def read_url(replica: PostgresReplica, database: Database) -> str:
    async with database.connection():  # the test's own database is there
        await replica.catch_up()
    return replica.dsn_of(NAME)


@pytest.fixture
async def way(read_url: str) -> AsyncGenerator[TcpProxy]:
    """Yield a way to the replica that can be cut."""
    port = URL(read_url).port
    assert port is not None
    async with TcpProxy(port) as proxy:
        yield proxy


@pytest.fixture
def open_at(api_settings: ApiSettings, auth: AuthServer) -> Open:
    """Return what serves an API with this POSTGRES_READ_URL."""

    def open_(url: str) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        settings = replace(api_settings, replica=ReplicaSettings(postgres_read_url=SecretStr(url)))
        return running_api(settings, token=auth.token(), create_timeout=timedelta(seconds=5))

    return open_


async def ids_of(api: httpx.AsyncClient, path: str) -> list[str]:
    response = await api.get(path)
    assert response.status_code == 200, response.text
    return [one["id"] for one in response.json()]


async def all_pages(api: httpx.AsyncClient, first: httpx.Response) -> list[str]:
    """Return the ids of a list from its first page on, by the links."""
    found: list[str] = []
    response = first
    while True:
        found += [one["id"] for one in response.json()]
        if "next" not in response.links:
            return found
        response = await api.get(response.links["next"]["url"])
        assert response.status_code == 200, response.text


async def test_each_read_goes_where_it_belongs(
    replica: PostgresReplica, read_url: str, open_at: Open, run_syncer: RunSyncer
) -> None:
    async with open_at(read_url) as api, run_syncer(), replica.standing_still():
        assert await ids_of(api, "/leads") == []
        answer = await api.post("/leads", json=lead_body(lastName="Hopper"))
        assert answer.status_code == 201
        lead = answer.json()
        path = f"/leads/{lead['id']}"
        # Behind: what the replica has.
        for behind in ("/leads", "/leads?q=hopper", "/leads?sort=lastName"):
            assert await ids_of(api, behind) == [], behind
        assert (await api.get("/leads?count=exact")).headers["X-Total-Count"] == "0"
        assert (await api.get("/leads/export")).text == ""
        assert await ids_of(api, f"{path}/history") == []
        assert await ids_of(api, f"{path}/summaries") == []
        # Fresh: what the client has just been told, and goes on with.
        assert (await api.get(path)).json()["id"] == lead["id"]
        changed = await api.patch(
            path, json={"city": "Rome"}, headers={"If-Match": answer.headers["ETag"]}
        )
        assert changed.status_code == 200
        accepted = await api.patch(path, json={"city": "Oslo"}, headers={"Prefer": "respond-async"})

        async def is_applied() -> bool:
            operation = await api.get(accepted.headers["Location"])
            return bool(operation.json()["status"] == "succeeded")

        await eventually(is_applied)
    # And a moment later there, too.
    async with open_at(read_url) as api:
        await replica.catch_up()
        assert await ids_of(api, "/leads") == [lead["id"]]
        assert len(await ids_of(api, f"{path}/history")) == 3


@pytest.mark.parametrize(
    "query",
    [
        f"updatedAfter={LONG_AGO}",
        pytest.param(f"createdAfter={LONG_AGO}", marks=pytest.mark.long),
        pytest.param("sort=updatedAt", marks=pytest.mark.long),
    ],
)
async def test_who_polls_misses_nothing_that_a_replica_has_not_got_yet(
    query: str, replica: PostgresReplica, read_url: str, open_at: Open, database: Database
) -> None:
    """A list ends before what is under way: all that is before that must be in it."""
    async with open_at(read_url) as api, replica.standing_still():
        await ids_of(api, "/leads")
        leads = [str(await insert_lead(database)) for _ in range(3)]

        async def are_settled() -> bool:
            return sorted(await ids_of(api, f"/leads?{query}")) == sorted(leads)

        await eventually(are_settled)
        first = await api.get(f"/leads?{query}&limit=1")
        assert sorted(await all_pages(api, first)) == sorted(leads)
        if "After" in query:
            exported = (await api.get(f"/leads/export?{query}")).text
            assert exported.count("\n") == 3


@pytest.mark.parametrize(
    "sort",
    [
        "-createdAt",
        pytest.param("lastName", marks=pytest.mark.long),
        pytest.param("-lastName", marks=pytest.mark.long),
    ],
)
async def test_no_page_is_older_than_the_one_before(
    sort: str,
    replica: PostgresReplica,
    way: TcpProxy,
    read_url: str,
    open_at: Open,
    database: Database,
) -> None:
    """The first page is the primary's, while the replica is away; then it is back, and behind."""
    url = str(URL(read_url).with_port(way.port))
    async with open_at(url) as api, replica.standing_still():
        leads = [str(await insert_lead(database)) for _ in range(4)]
        way.reset()
        first = await api.get(f"/leads?sort={sort}&limit=1")
        assert len(first.json()) == 1
        way.heal()

        async def is_back() -> bool:
            return await ids_of(api, "/leads") == []

        await eventually(is_back)
        assert sorted(await all_pages(api, first)) == sorted(leads)


async def test_lists_go_on_without_the_replica(
    replica: PostgresReplica, way: TcpProxy, read_url: str, open_at: Open, database: Database
) -> None:
    url = str(URL(read_url).with_port(way.port))
    lead = str(await insert_lead(database))
    await replica.catch_up()
    with capture_logs() as logs:
        async with open_at(url) as api:
            assert await ids_of(api, "/leads") == [lead]
            for fault in (way.reset, way.swallow):
                fault()
                for path in ("/leads", "/leads?q=lovelace", f"/leads/{lead}/history"):
                    assert (await api.get(path)).status_code == 200
            assert (await api.get("/leads/export")).text.count("\n") == 1
            assert (await api.get("/health/ready")).json()["status"] == "ok"
            way.heal()

            async def has_ended() -> bool:
                await api.get("/leads")
                return ("ended", "replica") in outage_lines(logs)

            await eventually(has_ended)
    assert outage_lines(logs)[0] == ("began", "replica")
    began = next(one for one in logs if one["event"] == "outage.began")
    assert began["effect"] == "lists are read from the primary"


async def test_the_doctor_looks_at_it(
    replica: PostgresReplica,
    read_url: str,
    database: Database,
    postgres: EmbeddedPostgres,
    postgres_settings: PostgresSettings,
) -> None:
    async def finding(url: str) -> Finding:
        settings = ReplicaSettings(postgres_read_url=SecretStr(url))
        (found,) = await examine_replica(database, postgres_settings, settings)
        return found

    assert await examine_replica(database, postgres_settings, ReplicaSettings()) == []
    assert (await finding(read_url)).severity is Severity.OK
    async with replica.standing_still():
        await insert_lead(database)
        late = await finding(read_url)
    assert (late.severity, late.detail.endswith("MB behind")) == (Severity.OK, True)
    no_replica = await finding(postgres.dsn_of("leads"))
    assert (no_replica.severity, "none of its" in no_replica.detail) == (Severity.WARNING, True)
    away = await finding(f"postgresql://x:x@127.0.0.1:{free_port()}/leads")
    assert away.advice == "Start it, or correct POSTGRES_READ_URL. Lists are read from the primary."


async def test_what_is_no_replica_is_not_asked(
    open_at: Open, postgres: EmbeddedPostgres, database: Database
) -> None:
    """Such as a database of another kind: what it has cannot be compared."""
    lead = str(await insert_lead(database))
    logs: list[Any]
    with capture_logs() as logs:
        async with open_at(postgres.dsn_of("leads")) as api:
            assert await ids_of(api, "/leads") == [lead]
    began = next(one for one in logs if one["event"] == "outage.began")
    assert "POSTGRES_READ_URL leads to no replica" in began["reason"]
