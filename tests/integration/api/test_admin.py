"""Operators' routes: the streams, dead letters, replays and syncs, by the operators' key."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.api.settings import ApiSettings
from services.syncer.sources import Fetched
from shared.events import catalog
from shared.events.dead_letter import DeadLetter
from shared.events.envelope import Event
from shared.events.lead_events import SyncRequested
from shared.events.lead_fields import LeadFields
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.admin_log import AdminAction, AdminLog
from shared.storage.dead_letter_repository import DeadLetterRepository
from shared.storage.event_store import EventStore
from shared.storage.pool import Database
from shared.storage.sync_run_repository import SyncReport, SyncRunRepository
from shared.streams.codec import decode, encode
from shared.streams.entries import entries_of
from shared.streams.publisher import add_events
from tests.support.api import OpenApi, running_api
from tests.support.builders import lead_created, lead_fields
from tests.support.eventually import eventually
from tests.support.responder import Responder
from tests.support.silent_server import SilentServer
from tests.support.syncer import running_syncer

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


class Offer:
    """A source that always offers the same."""

    name = "randomuser"

    def __init__(self, leads: Sequence[LeadFields]) -> None:
        self._leads = leads

    async def fetch(self, count: int) -> Fetched:
        return Fetched(self._leads[:count], [])


async def actions(database: Database) -> list[AdminAction]:
    return await AdminLog(database).latest(limit=100)


async def keep(
    letters: DeadLetterRepository, events: Sequence[Event], *, reason: str = "attempts"
) -> None:
    for event in events:
        await letters.add(
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


class TestKey:
    @pytest.mark.parametrize("key", ["", " ", "api-key", "changeme", "your-api-key"])
    async def test_a_placeholder_opens_nothing_even_to_itself(
        self, key: str, open_api: OpenApi
    ) -> None:
        async with open_api(api_key=SecretStr(key)) as api:
            for sent in ({}, {"X-API-Key": key.strip() or "x"}):
                answer = await api.get("/admin/streams", headers=sent)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")

    @pytest.mark.parametrize("key", [KEY[:-1], KEY + "x", KEY.upper(), "", f"{KEY},{KEY}"])
    async def test_only_the_whole_key_opens(self, key: str, operator: httpx.AsyncClient) -> None:
        answer = await operator.get("/admin/dead-letters", headers={"X-API-Key": key})
        assert answer.status_code == 401

    async def test_it_is_no_key_to_anything_else(self, operator: httpx.AsyncClient) -> None:
        assert (await operator.get("/leads")).status_code == 401


async def test_streams_are_shown_with_their_groups(
    operator: httpx.AsyncClient, redis: Redis
) -> None:
    await add_events(redis, [lead_created() for _ in range(3)])
    await redis.xgroup_create(catalog.LEADS, catalog.SYNCER, id="0")
    answer = await operator.get("/admin/streams")
    assert answer.status_code == 200
    shown = {stream["name"]: stream for stream in answer.json()}
    assert shown.keys() == {*catalog.STREAMS, "stream:dead-letters"}
    leads = shown[catalog.LEADS]
    assert (leads["exists"], leads["length"], leads["perSecond"]) == (True, 3, 0.0)
    [group] = leads["groups"]
    assert (group["name"], group["undelivered"], group["pending"]) == ("syncer", 3, 0)


class TestDeadLetters:
    async def test_they_are_listed_page_by_page_without_their_events(
        self, operator: httpx.AsyncClient, letters: DeadLetterRepository
    ) -> None:
        events = [lead_created() for _ in range(5)]
        await keep(letters, events)
        path, pages = "/admin/dead-letters?limit=2&reason=attempts", 0
        seen: list[dict[str, Any]] = []
        while path:
            answer = await operator.get(path)
            seen += answer.json()
            pages += 1
            path = answer.links.get("next", {}).get("url", "")
        assert pages == 3
        assert [one["eventId"] for one in seen] == [str(event.id) for event in reversed(events)]
        assert all("fields" not in one for one in seen)

    async def test_they_are_filtered_and_counted(
        self, operator: httpx.AsyncClient, letters: DeadLetterRepository
    ) -> None:
        parked = [lead_created() for _ in range(3)]
        await keep(letters, parked[:2])
        await keep(letters, parked[2:], reason="crash")
        for query, number in (
            ("", 3),
            ("?reason=crash", 1),
            ("?group=syncer&type=lead-created", 3),
            ("?group=summarizer", 0),
            (f"?eventId={parked[0].id}", 1),
        ):
            assert len((await operator.get(f"/admin/dead-letters{query}")).json()) == number
        counts = (await operator.get("/admin/dead-letters/counts")).json()
        assert {one["reason"]: one["count"] for one in counts} == {"attempts": 2, "crash": 1}

    async def test_one_is_shown_with_its_event(
        self, operator: httpx.AsyncClient, letters: DeadLetterRepository
    ) -> None:
        event = lead_created()
        await keep(letters, [event])
        [listed] = (await operator.get("/admin/dead-letters")).json()
        shown = (await operator.get(f"/admin/dead-letters/{listed['id']}")).json()
        assert shown["fields"]["subject"] == event.subject
        assert shown["error"] == "TransientError: not today"

    async def test_a_retried_event_is_back_in_its_stream_and_recorded(
        self,
        operator: httpx.AsyncClient,
        letters: DeadLetterRepository,
        redis: Redis,
        database: Database,
    ) -> None:
        event = lead_created()
        await keep(letters, [event])
        [listed] = (await operator.get("/admin/dead-letters")).json()
        answer = await operator.post(f"/admin/dead-letters/{listed['id']}/retry")
        assert (answer.status_code, answer.json()) == (200, {"retried": 1, "hopeless": 0})
        [entry] = entries_of(await redis.xrange(catalog.LEADS))
        assert decode(entry.fields).id == event.id
        assert (await operator.get("/admin/dead-letters")).json() == []
        [action] = await actions(database)
        assert (action.actor, action.action, action.affected) == ("api", "dead-letters retry", 1)
        assert action.detail == {"ids": [listed["id"]]}

    async def test_many_are_retried_or_discarded_by_reason(
        self,
        operator: httpx.AsyncClient,
        letters: DeadLetterRepository,
        redis: Redis,
        database: Database,
    ) -> None:
        await keep(letters, [lead_created() for _ in range(3)])
        await keep(letters, [lead_created() for _ in range(2)], reason="crash")
        retried = await operator.post("/admin/dead-letters/retry?reason=attempts")
        assert retried.json() == {"retried": 3, "hopeless": 0}
        assert await redis.xlen(catalog.LEADS) == 3
        discarded = await operator.delete("/admin/dead-letters?reason=crash")
        assert (discarded.status_code, discarded.json()) == (200, {"discarded": 2})
        done = {action.action: action.affected for action in await actions(database)}
        assert done == {"dead-letters retry": 3, "dead-letters discard": 2}

    async def test_one_is_discarded(
        self, operator: httpx.AsyncClient, letters: DeadLetterRepository
    ) -> None:
        await keep(letters, [lead_created()])
        [listed] = (await operator.get("/admin/dead-letters")).json()
        address = f"/admin/dead-letters/{listed['id']}"
        assert (await operator.delete(address)).status_code == 204
        gone = await operator.delete(address)
        assert (gone.status_code, gone.json()["code"]) == (404, "dead-letter-not-found")

    @pytest.mark.parametrize("query", ["", "?reason=", "?resaon=crash", "?reason=a&reason=b"])
    async def test_nothing_is_done_to_all_by_accident(
        self,
        query: str,
        operator: httpx.AsyncClient,
        letters: DeadLetterRepository,
        database: Database,
    ) -> None:
        await keep(letters, [lead_created()])
        for answer in (
            await operator.delete(f"/admin/dead-letters{query}"),
            await operator.post(f"/admin/dead-letters/retry{query}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (400, "validation-failed")
        assert len((await operator.get("/admin/dead-letters")).json()) == 1
        assert await actions(database) == []

    @pytest.mark.parametrize("number", ["0", "-1", "x", "9" * 19, "9" * 40, "%c2%b2", "1%00"])
    async def test_what_is_no_number_is_no_letter(
        self, number: str, operator: httpx.AsyncClient
    ) -> None:
        for method, address in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
            answer = await operator.request(method, f"/admin/dead-letters/{number}{address}")
            assert (answer.status_code, answer.json()["code"]) == (404, "dead-letter-not-found")

    @pytest.mark.parametrize("cursor", ["0", "x", "-1", "9" * 20])
    async def test_a_cursor_is_a_number(self, cursor: str, operator: httpx.AsyncClient) -> None:
        answer = await operator.get("/admin/dead-letters", params={"after": cursor})
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["after"])


class TestReplays:
    """With a real syncer that has applied some leads."""

    @pytest.fixture
    async def applied(self, syncer: None, redis: Redis, database: Database) -> Sequence[Event]:  # noqa: ARG002
        events = [lead_created() for _ in range(3)]
        await add_events(redis, events)
        store = EventStore(database)

        async def all_applied() -> bool:
            return len(await store.outcomes([event.id for event in events])) == len(events)

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
        assert await redis.xlen(catalog.LEADS) == len(applied)
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
            await runs.finish(event.id, SyncReport(fetched=10, created=9, duplicate=1))

        begun = await operator.post("/admin/sync", headers={"Prefer": "respond-async"})
        assert begun.status_code == 202
        address = begun.headers["Location"]
        assert (await operator.get(address)).json()["state"] == "pending"
        await run()
        report = (await operator.get(address)).json()
        assert (report["state"], report["created"], report["duplicate"]) == ("succeeded", 9, 1)
        [event] = responder.events
        assert isinstance(event.data, SyncRequested)
        assert event.data.requested_by == "operator"
        assert event.expires is not None

    async def test_whoever_waits_is_answered_with_the_report(
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

    async def test_a_sync_that_nobody_carries_out_goes_on_as_accepted(
        self, settings: ApiSettings
    ) -> None:
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

    async def test_an_unknown_sync_is_not_found(self, operator: httpx.AsyncClient) -> None:
        answer = await operator.get(f"/admin/sync/{uuid4()}")
        assert (answer.status_code, answer.json()["code"]) == (404, "sync-not-found")


async def test_nothing_is_done_that_cannot_be_recorded(
    settings: ApiSettings, letters: DeadLetterRepository, silent_server: SilentServer, redis: Redis
) -> None:
    await keep(letters, [lead_created()])
    nowhere = SecretStr(f"postgresql://postgres:x@127.0.0.1:{silent_server.port}/leads")
    postgres = settings.postgres.model_copy(update={"supabase_connection_string": nowhere})
    async with running_api(replace(settings, postgres=postgres)) as client:
        client.headers["X-API-Key"] = KEY
        answer = await client.post("/admin/dead-letters/retry?reason=attempts")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert await redis.xlen(catalog.LEADS) == 0
