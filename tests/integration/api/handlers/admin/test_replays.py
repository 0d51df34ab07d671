"""`/admin/replays`: counted first, begun when it is meant, taken up again."""

from collections.abc import Sequence
from typing import Any, ClassVar

import httpx
import pytest
from redis.asyncio import Redis

from services.api.settings import ApiSettings
from shared.events import catalog
from shared.events.envelope import Event
from shared.storage.admin_log import AdminAction
from shared.storage.inbox import EventStore
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from shared.streams.publisher import add_events
from shared.streams.replays.replayer import IN_FLIGHT
from tests.conftest import LEADS_DIVISION
from tests.integration.api.handlers.admin.conftest import KEY, actions
from tests.support.api import RunSyncer, running_api
from tests.support.builders import lead_created
from tests.support.eventually import eventually
from tests.support.partitions import all_leads_done, lead_entries


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
        assert replay["planned"] == 3
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
        redis: Redis,
    ) -> None:
        """The process that ran it has gone; another takes it up."""
        # At one a second: enough for the process to be gone before, however slow the machine is.
        more = [lead_created() for _ in range(5)]
        await add_events(redis, more)
        async with running_api(settings) as leaving:
            leaving.headers["X-API-Key"] = KEY
            order = {"origin": "stream", "dryRun": False, "rate": 1}
            begun = await leaving.post("/admin/replays", json=order)
        address = begun.headers["Location"]
        assert (await operator.get(address)).json()["state"] == "adding"
        resumed = await operator.post(f"{address}/resume")
        assert resumed.status_code == 202
        replay = await self.finished(operator, address)
        assert replay["added"] == len(applied) + len(more)
        assert (await operator.post(f"{address}/resume")).json()["state"] == "finished"

    async def test_one_that_is_over_is_not_cancelled(
        self, operator: httpx.AsyncClient, applied: Sequence[Event]
    ) -> None:
        order = {"origin": "archive", "dryRun": False, "leadIds": [applied[0].subject]}
        address = (await operator.post("/admin/replays", json=order)).headers["Location"]
        await self.finished(operator, address)
        answer = await operator.post(f"{address}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (409, "replay-finished")
        replay = (await operator.get(address)).json()
        assert (replay["state"], replay["planned"]) == ("finished", 1)

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
            ({"origin": "stream", "first": f"{2**64}-0"}, "first"),
            ({"origin": "stream", "first": f"1-{2**64}"}, "first"),
            ({"origin": "stream", "first": "2-1", "last": "2-0"}, "last"),
            ({"origin": "archive", "since": "2026-02-01", "until": "2026-02-01"}, "until"),
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
        for method, address in (("GET", ""), ("POST", "/resume"), ("POST", "/cancel")):
            answer = await operator.request(method, f"/admin/replays/{replay}{address}")
            assert (answer.status_code, answer.json()["code"]) == (404, "replay-not-found")


class TestCancelling:
    """Of a replay that waits for a syncer: no more than so much may be under way."""

    NUMBER = IN_FLIGHT + 100
    ORDER: ClassVar = {"origin": "stream", "dryRun": False}

    @pytest.fixture(autouse=True)
    async def many(self, redis: Redis) -> None:
        await add_events(redis, [lead_created() for _ in range(self.NUMBER)])

    async def begun(self, operator: httpx.AsyncClient) -> str:
        """Return the address of a replay that can go no further, once it is counted."""
        answer = await operator.post("/admin/replays", json=self.ORDER)
        address: str = answer.headers["Location"]

        async def waits() -> bool:
            replay = (await operator.get(address)).json()
            assert replay["planned"] in {None, self.NUMBER}
            return replay["planned"] is not None and replay["added"] > IN_FLIGHT / 2

        await eventually(waits)
        return address

    @staticmethod
    async def runs_ended(database: Database, number: int) -> bool:
        return [one.affected is not None for one in await actions(database)].count(True) == number

    async def test_it_puts_nothing_more_back_until_it_is_resumed(
        self,
        operator: httpx.AsyncClient,
        database: Database,
        redis: Redis,
        run_syncer: RunSyncer,
    ) -> None:
        address = await self.begun(operator)
        answer = await operator.post(f"{address}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        await eventually(lambda: self.runs_ended(database, 1))
        # There would be room again, and nobody makes use of it.
        async with run_syncer():
            await eventually(lambda: all_leads_done(redis))
            replay = (await operator.post(f"{address}/cancel")).json()
            assert (replay["state"], replay["planned"]) == ("cancelled", self.NUMBER)
            assert 0 < replay["added"] <= IN_FLIGHT
            resumed = await operator.post(f"{address}/resume")
            assert (resumed.status_code, resumed.json()["planned"]) == (202, self.NUMBER)
            replay = await TestReplays.finished(operator, address)
        assert (replay["added"], replay["outstanding"]) == (self.NUMBER, 0)
        assert replay["applied"] + replay["alreadyApplied"] == self.NUMBER

    async def test_whoever_runs_it_is_told(
        self, settings: ApiSettings, operator: httpx.AsyncClient, database: Database
    ) -> None:
        """Another process runs it, and takes it up again at once; then it is gone."""
        async with running_api(settings) as other:
            other.headers["X-API-Key"] = KEY
            address = await self.begun(other)
            assert (await operator.post(f"{address}/cancel")).json()["state"] == "cancelled"
            resumed = await other.post(f"{address}/resume")
            assert (resumed.status_code, resumed.json()["state"]) == (202, "adding")
            await eventually(lambda: self.runs_ended(database, 1))
            assert len(await actions(database)) == 2
        assert (await operator.get(address)).json()["state"] == "adding"
        assert (await operator.post(f"{address}/cancel")).json()["state"] == "cancelled"

    async def test_one_that_waits_for_results_alone_is_cancelled_too(
        self, operator: httpx.AsyncClient, run_syncer: RunSyncer, redis: Redis
    ) -> None:
        lead_id = entries_of(await redis.xrange(LEADS_DIVISION.last.names[0], count=1))[0].fields
        order = {**self.ORDER, "leadIds": [lead_id[b"subject"].decode()]}
        address = (await operator.post("/admin/replays", json=order)).headers["Location"]

        async def is_added() -> bool:
            return bool((await operator.get(address)).json()["state"] == "added")

        await eventually(is_added)
        replay = (await operator.post(f"{address}/cancel")).json()
        figures = [replay[name] for name in ("state", "added", "outstanding")]
        assert figures == ["cancelled", 1, 1]
        async with run_syncer():
            await operator.post(f"{address}/resume")
            assert (await TestReplays.finished(operator, address))["planned"] == 1
