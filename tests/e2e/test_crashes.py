"""kill -9 of any one process, at work: nothing accepted is lost, nothing is there twice."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from shared.events.envelope import new_id
from tests.support.api_client import Answer, ApiClient
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.standin_control import StandInControl

CREATES = 120
AT_ONCE = 12
ANSWERS_BEFORE_THE_KILL = 30
ACCEPTED = {200, 201, 202}

Send = Callable[[], Awaitable[Answer]]


async def insist(send: Send) -> Answer:
    """Send until it is answered, as a client does after no answer, or one that says to retry."""

    async def accepted() -> Answer | None:
        try:
            answer = await send()
        except aiohttp.ClientError:  # no listener, or gone before the answer
            return None
        if answer.status == 503:
            return None
        assert answer.status in ACCEPTED, answer.body
        return answer

    return await eventually(accepted)


class Burst:
    """Creates at full speed, some of which are under way when something dies."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._places = asyncio.Semaphore(AT_ONCE)
        self._is_under_way = asyncio.Event()
        self.bodies = [lead_body() for _ in range(CREATES)]
        self.answers: dict[str, Answer] = {}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run all to their answers; the block begins when some have theirs."""
        async with asyncio.TaskGroup() as creates:
            for body in self.bodies:
                creates.create_task(self._create(body), name="create")
            await self._is_under_way.wait()
            yield

    async def _create(self, body: dict[str, Any]) -> None:
        # The key makes a repetition after a lost answer the same request.
        headers = {"Idempotency-Key": str(new_id())}
        async with self._places:
            answer = await insist(lambda: self._client.post("/leads", json=body, headers=headers))
        self.answers[body["email"]] = answer
        if len(self.answers) >= ANSWERS_BEFORE_THE_KILL:
            self._is_under_way.set()


OTHERS = [pytest.param(one, marks=pytest.mark.long) for one in ("summarizer", "valkey", "postgres")]


@pytest.mark.parametrize("victim", ["api", "syncer", *OTHERS])
async def test_a_burst_of_creates_outlives_any_process(
    victim: str, stack: Stack, client: ApiClient
) -> None:
    burst = Burst(client)
    async with burst.running():
        assert len(burst.answers) < CREATES
        killed = stack.send(victim, signal.SIGKILL)
    await stack.is_another(victim, than=killed)

    leads: dict[str, str] = {}
    for email, answer in burst.answers.items():
        if answer.status == 202:
            operation = await client.outcome_of(answer)
            assert operation["status"] == "succeeded", operation
            leads[email] = operation["leadId"]
        else:
            leads[email] = answer.json["id"]
    stored = await client.list_all()
    emails = Counter(lead["email"] for lead in stored)
    assert [emails[body["email"]] for body in burst.bodies] == [1] * CREATES
    assert {lead["email"]: lead["id"] for lead in stored}.items() >= leads.items()
    # The schedule went on all the while.
    assert sum(lead["source"] == "randomuser" for lead in stored) <= 20


async def test_summaries_outlive_the_summarizer(
    stack: Stack, client: ApiClient, groq: StandInControl
) -> None:
    leads = await asyncio.gather(*(client.create() for _ in range(10)))
    async with groq.misbehaving(delay=0.5):
        requests = [
            asyncio.create_task(client.post(f"/leads/{lead['id']}/summary"), name="summary")
            for lead in leads
        ]
        await groq.is_asked()
        killed = stack.send("summarizer", signal.SIGKILL)
        answers = await asyncio.gather(*requests)
    await stack.is_another("summarizer", than=killed)
    assert {answer.status for answer in answers} <= {200, 202}
    for lead, answer in zip(leads, answers, strict=True):
        if answer.status == 202:
            assert (await client.outcome_of(answer))["status"] == "succeeded"
        summarised = await client.read(lead["id"])
        assert summarised["summary"]
        assert summarised["version"] == lead["version"] + 1


async def test_sigterm_lets_the_api_finish(
    stack: Stack, client: ApiClient, groq: StandInControl
) -> None:
    lead = await client.create()
    async with groq.misbehaving(delay=1):
        request = asyncio.create_task(client.post(f"/leads/{lead['id']}/summary"), name="summary")
        await groq.is_asked()
        ended = stack.send("api", signal.SIGTERM)
        answer = await request
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert answer.json["summary"]
    # Meant for the whole system's end; here the supervisor sees a service that is gone.
    await stack.is_another("api", than=ended)
    assert await insist(lambda: client.get(f"/leads/{lead['id']}"))
