"""One summary: asked for, checked, asked for once more if need be, and over by the deadline."""

from datetime import date, timedelta

import pytest

from services.summarizer.providers import Completion, Provider
from services.summarizer.upstream import ModelCircuit, Upstream
from services.summarizer.writer import SummaryWriter, Written
from shared.domain.summary import FailureReason, SummaryFailure, SummaryText
from tests.support.adversarial import IN_LEAD_FIELDS, REFUSED_ANSWERS
from tests.support.facts import facts
from tests.support.summaries import Says, Waits, answer, is_down

TODAY = date(2026, 11, 24)


async def write(provider: Provider, *, within: float = 5, name: str = "Ada") -> Written:
    upstream = Upstream(
        provider,
        circuit=ModelCircuit(failures=10, pause=timedelta(seconds=15)),
        concurrency=10,
        timeout=timedelta(seconds=5),
    )
    return await SummaryWriter(upstream, today=lambda: TODAY).write(
        facts(first_name=name), within=timedelta(seconds=within)
    )


def reason_of(written: Written) -> FailureReason:
    assert isinstance(written.result, SummaryFailure)
    return written.result.reason


async def test_proper_answer() -> None:
    written = await write(Says())
    assert written.result == SummaryText("Hello", "Say hello back")
    assert (written.usage.calls, written.usage.tokens_in) == (1, 100)


async def test_improper_answer_is_asked_about_once() -> None:
    provider = Says("{}", answer())
    written = await write(provider)
    assert written.result == SummaryText("Hello", "Say hello back")
    assert written.usage.calls == 2
    first, second = provider.prompts
    assert second.messages[:2] == first.messages
    assert "summary: Field required" in second.messages[3].content


async def test_an_answer_that_was_cut_off_is_asked_for_again_and_shorter() -> None:
    provider = Says(Completion(text='{"summary": "Ada li', is_cut=True), answer())
    assert (await write(provider)).result == SummaryText("Hello", "Say hello back")
    assert "Write less." in provider.prompts[1].messages[3].content


async def test_what_stands_around_an_answer_costs_no_second_call() -> None:
    provider = Says(f"<think>Well...</think>\n```json\n{answer()}\n```\nDone.")
    assert (await write(provider)).usage.calls == 1


@pytest.mark.parametrize("text", REFUSED_ANSWERS, ids=range(len(REFUSED_ANSWERS)))
async def test_nonsense_twice_is_a_failure(text: str) -> None:
    provider = Says(text)
    written = await write(provider)
    assert reason_of(written) is FailureReason.INVALID_OUTPUT
    assert provider.calls == 2


@pytest.mark.parametrize("payload", IN_LEAD_FIELDS)
async def test_model_that_obeys_a_lead_does_not_get_it_through(payload: str) -> None:
    """A model that answers with what a stranger put into a field gives no summary by it."""
    written = await write(Says(payload), name=payload)
    if payload == IN_LEAD_FIELDS[11]:  # the one that is a proper answer, and harmless as such
        assert written.result == SummaryText("pwned", "pwned")
    else:
        assert reason_of(written) is FailureReason.INVALID_OUTPUT


async def test_failure_keeps_its_reason() -> None:
    assert reason_of(await write(Says(is_down()))) is FailureReason.PROVIDER_UNAVAILABLE
    refused = is_down(FailureReason.PROVIDER_REFUSED)
    assert reason_of(await write(Says("{}", refused))) is FailureReason.PROVIDER_REFUSED


async def test_deadline_ends_the_wait() -> None:
    written = await write(Waits(), within=0.05)
    assert reason_of(written) is FailureReason.TIMEOUT
    assert written.latency < timedelta(seconds=1)
