"""A model that answers nonsense, fails or hangs: nothing improper is stored, everything ends."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import orjson

from services.summarizer.prompts import Prompt
from services.summarizer.providers import Completion, ProviderError
from shared.domain.summary import FailureReason
from shared.events.outcome import OutcomeStatus
from shared.storage.pool import Database
from tests.integration.summarizer.conftest import OpenSummarizer
from tests.support.adversarial import REFUSED_ANSWERS
from tests.support.summaries import Says, answer, requested, stored_leads

REQUESTS = 400


async def test_nonsense_reaches_neither_database_nor_cache(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    leads = await stored_leads(database, len(REFUSED_ANSWERS))
    for lead_id, nonsense in zip(leads, REFUSED_ANSWERS, strict=True):
        async with summarizer_of(Says(nonsense)) as summarizer:
            outcome = await summarizer.ask(requested(lead_id))
            assert outcome.status is OutcomeStatus.FAILED
            assert orjson.loads(outcome.body)["reason"] == "invalid-output"
            assert await summarizer.cache.get(lead_id) is None
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(summary) FROM leads.lead") == 0
        assert await connection.fetchval("SELECT count(summary) FROM leads.summary") == 0
        assert await connection.fetchval("SELECT max(version) FROM leads.lead") == 1


class Moody:
    """Fails like a provider on a bad day: one call in ten is limited, some fail, hang or babble."""

    name = "tests"
    model = "moody"

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.calls = 0

    async def complete(self, prompt: Prompt, *, timeout: timedelta) -> Completion:  # noqa: ARG002, ASYNC109 (the port's)
        self.calls += 1
        await asyncio.sleep(0.005)
        luck = self._random.random()
        if luck < 0.10:
            raise _passing(FailureReason.RATE_LIMITED)
        if luck < 0.15:
            raise _passing(FailureReason.PROVIDER_UNAVAILABLE)
        if luck < 0.17:
            raise _passing(FailureReason.TIMEOUT)
        if luck < 0.19:
            return Completion(text="{}")
        return Completion(text=answer(summary=f"About {prompt.facts.last_name}"))


def _passing(reason: FailureReason) -> ProviderError:
    return ProviderError("bad luck", reason=reason, detail="Bad luck.", passing=True)


async def test_every_request_ends_and_no_lead_has_half_a_summary(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    leads = await stored_leads(database, REQUESTS)
    provider = Moody(seed=5)
    async with summarizer_of(provider) as one, summarizer_of(provider) as other:
        outcomes = await asyncio.gather(
            *((one, other)[number % 2].ask(requested(lead)) for number, lead in enumerate(leads))
        )
    statuses = Counter(outcome.status for outcome in outcomes)
    assert statuses.keys() <= {OutcomeStatus.SUMMARISED, OutcomeStatus.FAILED}
    assert statuses[OutcomeStatus.SUMMARISED] >= REQUESTS * 0.97
    assert provider.calls > REQUESTS
    async with database.connection() as connection:
        states = await connection.fetch("SELECT state, count(*) FROM leads.summary GROUP BY 1")
        wrong = await connection.fetchval(
            "SELECT count(*) FROM leads.lead LEFT JOIN leads.summary"
            " ON summary.lead_id = lead.id AND summary.state = 'succeeded'"
            " WHERE (lead.summary, lead.next_action)"
            " IS DISTINCT FROM (summary.summary, summary.next_action)"
            " OR lead.summary <> 'About ' || lead.last_name"
        )
    assert sum(row["count"] for row in states) == REQUESTS
    assert {row["state"] for row in states} <= {"succeeded", "failed"}
    assert wrong == 0
