"""`/admin/sync`: leads fetched now."""

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from services.api.settings import ApiSettings
from services.syncer.sources import Fetched
from shared.events import catalog
from shared.events.data import SyncRequested
from shared.events.envelope import Event, new_id
from shared.events.lead_fields import LeadFields
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.pool import Database
from shared.storage.sync_runs import SyncRunRepository
from tests.integration.api.handlers.admin.conftest import KEY
from tests.support.api import running_api
from tests.support.builders import lead_fields
from tests.support.eventually import eventually
from tests.support.responder import Responder
from tests.support.syncer import running_syncer


class Offer:
    """A source that always offers the same."""

    name = "randomuser"

    def __init__(self, leads: Sequence[LeadFields]) -> None:
        self._leads = leads

    async def fetch(self, count: int) -> Fetched:
        return Fetched(self._leads[:count], [])


class TestSync:
    @pytest.fixture
    async def responder(self, redis: Redis) -> AsyncGenerator[Responder]:
        async with Responder(redis, stream=catalog.SYNC).running() as responder:
            yield responder

    async def test_the_report_is_answered(
        self, operator: httpx.AsyncClient, responder: Responder, database: Database
    ) -> None:
        """As the syncer: a row for the run, then the reply."""
        runs = SyncRunRepository(database)

        async def run() -> None:
            async def asked() -> Event | None:
                return responder.events[0] if responder.events else None

            event = await eventually(asked)
            await runs.begin(event.id, requested_by="operator")
            await runs.finish(event.id, invalid=2, counted_within=timedelta())

        begun = await operator.post("/admin/sync", headers={"Prefer": "respond-async"})
        assert begun.status_code == 202
        address = begun.headers["Location"]
        assert (await operator.get(address)).json()["state"] == "pending"
        await run()
        report = (await operator.get(address)).json()
        assert (report["state"], report["fetched"], report["invalid"]) == ("succeeded", 2, 2)
        [event] = responder.events
        assert isinstance(event.data, SyncRequested)
        assert event.data.requested_by == "operator"
        assert event.expires is not None

    async def test_a_waiting_client_gets_the_report(
        self, operator: httpx.AsyncClient, settings: ApiSettings
    ) -> None:
        source = Offer([lead_fields() for _ in range(3)])
        async with running_syncer(
            settings.postgres, settings.streams, settings.cache, source=source
        ):
            answers = [await operator.post("/admin/sync") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        reports = [answer.json() for answer in answers]
        assert [report["state"] for report in reports] == ["succeeded"] * 2
        figures = [(one["fetched"], one["created"], one["duplicate"]) for one in reports]
        assert figures == [(3, 3, 0), (3, 0, 3)]

    async def test_a_sync_without_a_syncer_goes_on_as_accepted(self, settings: ApiSettings) -> None:
        async with running_api(settings, summary_timeout=timedelta(milliseconds=100)) as client:
            client.headers["X-API-Key"] = KEY
            answer = await client.post("/admin/sync")
            assert (answer.status_code, answer.json()["status"]) == (202, "pending")

    async def test_one_that_was_parked_is_a_failure(
        self, operator: httpx.AsyncClient, responder: Responder
    ) -> None:
        responder.outcome = Outcome(OutcomeStatus.DEAD, b'{"reason": "error"}')
        answer = await operator.post("/admin/sync")
        assert (answer.status_code, answer.json()["code"]) == (500, "operation-failed")

    async def test_the_latest_are_listed_with_who_asked_and_what_came_of_it(
        self, operator: httpx.AsyncClient, database: Database
    ) -> None:
        """Page by page, while another one begins."""
        runs = SyncRunRepository(database)
        succeeded, failed, running, later = [new_id() for _ in range(4)]
        await runs.begin(succeeded, requested_by="schedule")
        await runs.finish(succeeded, [uuid4()], invalid=2, counted_within=timedelta())
        await runs.begin(failed, requested_by="operator")
        await runs.finish(failed, error="Random User: HTTP 500", counted_within=timedelta())
        await runs.begin(running, requested_by="schedule")
        first = await operator.get("/admin/sync?limit=2")
        await runs.begin(later, requested_by="operator")
        next_page = await operator.get(first.links["next"]["url"])
        assert "Link" not in next_page.headers
        shown = [*first.json(), *next_page.json()]
        assert [(one["id"], one["state"], one["requestedBy"], one["error"]) for one in shown] == [
            (str(running), "running", "schedule", None),
            (str(failed), "failed", "operator", "Random User: HTTP 500"),
            (str(succeeded), "succeeded", "schedule", None),
        ]
        assert [one["finishedAt"] is None for one in shown] == [True, False, False]
        assert (shown[2]["fetched"], shown[2]["invalid"], shown[2]["unknown"]) == (3, 2, 1)
        assert shown[2] == (await operator.get(f"/admin/sync/{succeeded}")).json()
        assert (await operator.get("/admin/sync")).json()[0]["id"] == str(later)

    @pytest.mark.parametrize("query", ["limit=0", "limit=501", "after=x", "state=failed"])
    async def test_a_page_that_is_none_is_refused(
        self, query: str, operator: httpx.AsyncClient
    ) -> None:
        answer = await operator.get(f"/admin/sync?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "validation-failed")

    async def test_an_unknown_sync_is_not_found(self, operator: httpx.AsyncClient) -> None:
        answer = await operator.get(f"/admin/sync/{uuid4()}")
        assert (answer.status_code, answer.json()["code"]) == (404, "sync-not-found")
