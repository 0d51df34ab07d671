"""I15: on a provider's bad day each request ends with a reason, and no call passes the budget."""

import random
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from shared.domain.summary import FailureReason
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.scale import FULL
from tests.faults.summarizers import Summarizers
from tests.support.bad_day import BadDay

PATIENCE = timedelta(minutes=10)
# A budget is kept for each model: two summarizers with two models share none.
ONE_MODEL = ("openai/gpt-oss-20b", "openai/gpt-oss-20b")
TWO_MODELS = ("openai/gpt-oss-20b", "openai/gpt-oss-120b")

# One request for each lead: how it ended, and how its event did.
_ENDS = """
    SELECT summary.state, summary.reason, event.outcome, event.detail ->> 'reason'
    FROM leads.event LEFT JOIN leads.summary USING (id) WHERE event.type = 'summary-requested'
"""
_WRONG = """
    SELECT count(*) FROM leads.lead
    LEFT JOIN leads.summary ON summary.lead_id = lead.id AND summary.state = 'succeeded'
    WHERE (lead.summary, lead.next_action) IS DISTINCT FROM (summary.summary, summary.next_action)
       OR (lead.summary IS NULL) <> (lead.next_action IS NULL)
       OR NOT starts_with(lead.summary, lead.first_name || ' ' || lead.last_name || ' lives in ')
"""


@dataclass(frozen=True, slots=True)
class Rush:
    """So many requests, each to end by its deadline, and a budget that is too small for them.

    `at_once` is how many each summarizer works on, `timeout` what a call may take.
    """

    requests: int
    at_once: int
    deadline: timedelta
    timeout: timedelta
    calls: int
    tokens: int

    async def work_off(
        self, summarizers: Summarizers, day: BadDay, models: tuple[str, ...]
    ) -> None:
        """Have a summarizer for each of the models work until nothing is left to do."""
        settings = {
            "GROQ_TIMEOUT": str(self.timeout.total_seconds()),
            "GROQ_MAX_TOKENS": "128",
            "GROQ_REQUESTS_PER_MINUTE": str(self.calls),
            "GROQ_TOKENS_PER_MINUTE": str(self.tokens),
            "SUMMARY_CONCURRENCY": str(self.at_once),
            "SUMMARY_DEADLINE": str(self.deadline.total_seconds()),
        }
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(day.serving())
            for model in models:
                summarizer = summarizers.summarizer(url, GROQ_MODEL=model, **settings)
                await stack.enter_async_context(summarizer)
            await summarizers.ask(self.requests)
            await summarizers.is_done(within=PATIENCE)

    def check_budget(self, day: BadDay) -> None:
        """Fail if more came in any sixty seconds, by the clock of the server that got it.

        A call's place is given by another clock, and calls do not take equally long to get
        here: the second that the product's minute has on top of sixty is for that.
        """
        came = {"calls": (day.most_calls, self.calls), "tokens": (day.most_tokens, self.tokens)}
        beyond = [
            f"{most:,} {what} a minute for {allowed:,}"
            for what, (most, allowed) in came.items()
            if most > allowed
        ]
        assert not beyond, ", ".join(beyond)


SHORT = (300, 50, timedelta(seconds=4), timedelta(seconds=1))
# A thousand calls may come at once here, and a server that shares two cores needs its time.
LONG = (10_000, 500, timedelta(seconds=60), timedelta(seconds=5))
# Too few calls for all requests, or too few tokens. At the short scale whatever finds no place in
# the first minute fails; in the full one it waits for the next.
FEW = {
    "calls": Rush(*SHORT, calls=240, tokens=240_000),
    "tokens": Rush(*SHORT, calls=2_400, tokens=60_000),
}
MANY = {
    "calls": Rush(*LONG, calls=5_000, tokens=5_000_000),
    "tokens": Rush(*LONG, calls=50_000, tokens=2_000_000),
}
RUSHES = MANY if FULL else FEW


async def ends_of(tables: Tables) -> Counter[str]:
    """Count the reasons of failed requests, and those that succeeded.

    Fails for a request that has no end, no known reason, or another one in its event.
    """
    ends: Counter[str] = Counter()
    for state, reason, outcome, failure in await tables.rows(_ENDS):
        if state == "succeeded":
            assert (reason, outcome, failure) == (None, "summarised", None)
        else:
            assert (state, outcome, failure) == ("failed", "failed", FailureReason(reason))
        ends[reason or state] += 1
    return ends


@pytest.mark.parametrize("scarce", ["calls", pytest.param("tokens", marks=pytest.mark.long)])
async def test_each_request_ends_and_the_budget_holds(
    scarce: str, summarizers: Summarizers, chance: random.Random, figure: Figure
) -> None:
    rush, day = RUSHES[scarce], BadDay(chance)
    await rush.work_off(summarizers, day, ONE_MODEL)
    ends = await ends_of(summarizers.tables)
    assert ends.total() == rush.requests
    assert await summarizers.tables.value(_WRONG) == 0, "leads with half a summary, or another's"
    rush.check_budget(day)
    reasons = ", ".join(f"{ends[reason]:,} {reason}" for reason in sorted(ends))
    figure(
        f"{rush.requests:,} requests: {reasons}; {len(day.calls):,} calls, {day.failures}; at most "
        f"{day.most_calls:,} calls and {day.most_tokens:,} tokens a minute"
    )


@pytest.mark.long
async def test_control_budgets_that_are_not_shared_are_passed(
    summarizers: Summarizers, chance: random.Random, figure: Figure
) -> None:
    rush = replace(FEW["tokens"], calls=FEW["calls"].calls)
    day = BadDay(chance)
    await rush.work_off(summarizers, day, TWO_MODELS)
    with pytest.raises(AssertionError, match=r"calls a minute .* tokens a minute") as failed:
        rush.check_budget(day)
    figure(f"a budget for each replica: {str(failed.value).splitlines()[0]}")
