"""`/admin/dead-letters`: shown, put back, discarded."""

from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.pool import Database
from shared.streams.codec import decode
from tests.integration.api.handlers.admin.conftest import actions, keep
from tests.support.builders import lead_created
from tests.support.partitions import lead_entries


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
        [entry] = await lead_entries(redis)
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
        assert len(await lead_entries(redis)) == 3
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
