"""`/admin/replays`: counted first, begun when it is meant, taken up again."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.api.settings import ApiSettings
from shared.events import catalog
from shared.events.envelope import Event
from shared.storage.admin_log import AdminAction
from shared.storage.inbox import EventStore
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from tests.integration.api.handlers.admin.conftest import KEY, actions
from tests.support.api import running_api
from tests.support.builders import lead_created
from tests.support.eventually import eventually
from tests.support.partitions import lead_entries


class TestReplays:
    """With a real syncer that has applied some leads."""

    @pytest.fixture
    async def applied(self, syncer: None, redis: Redis, database: Database) -> Sequence[Event]:  # noqa: ARG002
        events = [lead_created() for _ in range(3)]
        await add_events(redis, events)
        store = EventStore(database)

        async def all_applied() -> bool:
            return len(await store.ends([event.id for event in events])) == len(events)

        await eventually(all_applied)
        return events

    @staticmethod
    async def finished(operator: httpx.AsyncClient, address: str) -> dict[str, Any]:
        async def ended() -> dict[str, Any] | None:
            replay: dict[str, Any] = (await operator.get(address)).json()
            return replay if replay["state"] == "finished" else None

        return await eventually(ended)

    async def test_a_replay_is_only_counted_unless_it_is_meant(
        self, operator: httpx.AsyncClient, applied: Sequence[Event], redis: Redis
    ) -> None:
        answer = await operator.post("/admin/replays", json={"origin": "stream"})
        assert answer.status_code == 200
        assert answer.json()["counts"] == {"lead-created": len(applied)}
        assert len(await lead_entries(redis)) == len(applied)
        assert (await operator.get("/admin/replays")).json() == []

    @pytest.mark.parametrize("origin", ["stream", "archive"])
    async def test_a_replay_brings_back_what_is_missing(
        self,
        origin: str,
        operator: httpx.AsyncClient,
        applied: Sequence[Event],
        database: Database,
    ) -> None:
        async with database.connection() as connection:
            await connection.execute(
                "DELETE FROM leads.lead WHERE id::text = $1", applied[0].subject
            )
        order = {"origin": origin, "dryRun": False, "types": ["lead-created"]}
        answer = await operator.post("/admin/replays", json=order)
        assert answer.status_code == 202
        replay = await self.finished(operator, answer.headers["Location"])
        assert (replay["added"], replay["applied"], replay["alreadyApplied"]) == (3, 1, 2)
        assert (replay["dead"], replay["outstanding"], replay["requestedBy"]) == (0, 0, "api")
        assert [one["id"] for one in (await operator.get("/admin/replays")).json()] == [
            replay["id"]
        ]

        async def recorded() -> AdminAction | None:
            [action] = await actions(database)
            return action if action.affected is not None else None

        action = await eventually(recorded)
        assert (action.actor, action.action, action.affected) == ("api", "replay", 3)

    async def test_one_that_was_cut_short_goes_on(
        self,
        settings: ApiSettings,
        operator: httpx.AsyncClient,
        applied: Sequence[Event],
    ) -> None:
        """The process that ran it has gone; another takes it up."""
        async with running_api(settings) as leaving:
            leaving.headers["X-API-Key"] = KEY
            order = {"origin": "stream", "dryRun": False, "rate": 1}
            begun = await leaving.post("/admin/replays", json=order)
        address = begun.headers["Location"]
        assert (await operator.get(address)).json()["state"] == "adding"
        resumed = await operator.post(f"{address}/resume")
        assert resumed.status_code == 202
        replay = await self.finished(operator, address)
        assert replay["added"] == len(applied)
        assert (await operator.post(f"{address}/resume")).json()["state"] == "finished"

    @pytest.mark.parametrize(
        ("order", "field"),
        [
            ({}, "origin"),
            ({"origin": "tape"}, "origin"),
            ({"origin": "stream", "stream": "stream:nowhere"}, "stream"),
            ({"origin": "stream", "group": "nobody"}, "group"),
            ({"origin": "stream", "stream": "stream:changes"}, "group"),
            ({"origin": "stream", "types": ["summary-requested"]}, "types"),
            ({"origin": "stream", "first": "yesterday"}, "first"),
            ({"origin": "archive", "first": "1-1"}, "body"),
            ({"origin": "stream", "since": "yesterday"}, "since"),
            ({"origin": "stream", "rate": 0}, "rate"),
            ({"origin": "stream", "dryrun": False}, "dryrun"),
        ],
    )
    async def test_a_senseless_order_is_explained(
        self,
        order: dict[str, Any],
        field: str,
        operator: httpx.AsyncClient,
        redis: Redis,
    ) -> None:
        await redis.xgroup_create(catalog.LEADS, catalog.SYNCER, id="0", mkstream=True)
        answer = await operator.post("/admin/replays", json=order)
        assert (answer.status_code, list(answer.json()["errors"])) == (400, [field]), answer.text

    @pytest.mark.parametrize(
        "replay", ["5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11", "nonsense", "..%5C..%5Ckey"]
    )
    async def test_an_unknown_replay_is_not_found(
        self, replay: str, operator: httpx.AsyncClient
    ) -> None:
        for method, address in (("GET", ""), ("POST", "/resume")):
            answer = await operator.request(method, f"/admin/replays/{replay}{address}")
            assert (answer.status_code, answer.json()["code"]) == (404, "replay-not-found")
