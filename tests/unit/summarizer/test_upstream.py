"""Retries, limits and the circuit: in one place, and never past the deadline."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest

from services.summarizer.prompts import write_prompt
from services.summarizer.providers import Completion, Provider, ProviderError
from services.summarizer.upstream import (
    TRIES,
    Budget,
    Deadline,
    ModelCircuit,
    Reservation,
    Upstream,
    Usage,
)
from shared.domain.summary import FailureReason
from tests.support.facts import facts
from tests.support.summaries import Says, Waits, answer, is_down

PROMPT = write_prompt(facts(), today=date(2026, 11, 24))
PAUSE = timedelta(seconds=15)


def passing(
    reason: FailureReason = FailureReason.PROVIDER_UNAVAILABLE,
    retry_after: timedelta | None = None,
) -> ProviderError:
    return ProviderError(
        "busy", reason=reason, detail="Busy.", passing=True, retry_after=retry_after
    )


def upstream_of(
    provider: Provider,
    *,
    circuit: ModelCircuit | None = None,
    concurrency: int = 10,
    budget: Budget | None = None,
    most_tokens: int = 0,
) -> Upstream:
    return Upstream(
        provider,
        circuit=circuit or ModelCircuit(failures=100, pause=PAUSE),
        concurrency=concurrency,
        timeout=timedelta(seconds=5),
        budget=budget,
        most_tokens=most_tokens,
    )


async def complete(upstream: Upstream, within: float = 5, usage: Usage | None = None) -> str:
    deadline = Deadline.after(timedelta(seconds=within))
    completion = await upstream.complete(PROMPT, deadline=deadline, usage=usage or Usage())
    return completion.text


async def test_passing_failure_is_tried_again() -> None:
    provider = Says(passing(), passing(), answer())
    usage = Usage()
    assert await complete(upstream_of(provider), usage=usage) == answer()
    assert (usage.calls, usage.tokens_in, usage.tokens_out) == (3, 100, 20)


async def test_there_are_three_tries_in_all() -> None:
    provider = Says(passing())
    with pytest.raises(ProviderError):
        await complete(upstream_of(provider))
    assert provider.calls == TRIES == 3


async def test_failure_that_lasts_is_not_tried_again() -> None:
    provider = Says(is_down(FailureReason.PROVIDER_REFUSED))
    with pytest.raises(ProviderError):
        await complete(upstream_of(provider))
    assert provider.calls == 1


async def test_retry_after_is_waited_for() -> None:
    wait = timedelta(milliseconds=300)
    provider = Says(passing(FailureReason.RATE_LIMITED, wait), answer())
    started = time.monotonic()
    await complete(upstream_of(provider))
    assert wait.total_seconds() <= time.monotonic() - started < 1.5


async def test_retry_after_past_the_deadline_is_returned_at_once() -> None:
    provider = Says(passing(FailureReason.RATE_LIMITED, timedelta(minutes=9)))
    started = time.monotonic()
    with pytest.raises(ProviderError) as caught:
        await complete(upstream_of(provider))
    assert caught.value.retry_after == timedelta(minutes=9)
    assert (provider.calls, time.monotonic() - started < 1) == (1, True)


async def test_calls_at_once_are_limited() -> None:
    provider = Waits()
    upstream = upstream_of(provider, concurrency=3)
    tasks = [asyncio.create_task(complete(upstream)) for _ in range(10)]
    await provider.asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert provider.most_at_once == 3
    provider.go.set()
    await asyncio.gather(*tasks)
    assert provider.most_at_once == 3


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def attempt(circuit: ModelCircuit, error: ProviderError | None = None) -> FailureReason | None:
    try:
        with circuit.watch():
            if error is not None:
                raise error
    except ProviderError as raised:
        return raised.reason
    return None


def open_circuit(clock: Callable[[], float]) -> ModelCircuit:
    circuit = ModelCircuit(failures=3, pause=PAUSE, clock=clock)
    for _ in range(3):
        attempt(circuit, is_down())
    assert circuit.is_open
    return circuit


def test_circuit_opens_on_a_run_of_failures_only() -> None:
    circuit = ModelCircuit(failures=3, pause=PAUSE)
    for error in (is_down(), is_down(FailureReason.TIMEOUT), None, is_down(), is_down()):
        attempt(circuit, error)
    assert not circuit.is_open
    attempt(circuit, is_down())
    assert attempt(circuit) is FailureReason.CIRCUIT_OPEN


@pytest.mark.parametrize("reason", [FailureReason.RATE_LIMITED, FailureReason.PROVIDER_REFUSED])
def test_circuit_takes_an_answer_for_a_sign_of_life(reason: FailureReason) -> None:
    circuit = ModelCircuit(failures=3, pause=PAUSE)
    for _ in range(10):
        attempt(circuit, is_down(reason))
    assert not circuit.is_open


@pytest.mark.parametrize("answered", [True, False])
def test_circuit_opens_for_calls_that_hang_together_unless_others_are_answered(
    *, answered: bool
) -> None:
    circuit = ModelCircuit(failures=3, pause=PAUSE)
    with suppress(ProviderError), ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(circuit.watch())
        attempt(circuit, None if answered else is_down(FailureReason.RATE_LIMITED))
        raise is_down(FailureReason.TIMEOUT)
    assert circuit.is_open is not answered


def test_open_circuit_says_when_to_come_back() -> None:
    clock = Clock()
    circuit = open_circuit(clock)
    clock.now = 5
    with pytest.raises(ProviderError) as caught, circuit.watch():
        pass
    assert caught.value.retry_after == timedelta(seconds=10)


def test_open_circuit_is_probed_by_one_call() -> None:
    clock = Clock()
    circuit = open_circuit(clock)
    clock.now = PAUSE.total_seconds()
    with circuit.watch():
        assert attempt(circuit) is FailureReason.CIRCUIT_OPEN
    assert not circuit.is_open


def test_circuit_stays_open_when_the_probe_fails_or_is_cancelled() -> None:
    clock = Clock()
    circuit = open_circuit(clock)
    clock.now = PAUSE.total_seconds()
    with pytest.raises(asyncio.CancelledError), circuit.watch():
        raise asyncio.CancelledError
    assert attempt(circuit, is_down()) is FailureReason.PROVIDER_UNAVAILABLE
    assert attempt(circuit) is FailureReason.CIRCUIT_OPEN


async def test_open_circuit_answers_without_a_call() -> None:
    provider, budget = Says(), ScriptedBudget([])
    upstream = upstream_of(provider, circuit=open_circuit(Clock()), budget=budget)
    with pytest.raises(ProviderError) as caught:
        await complete(upstream)
    assert caught.value.reason is FailureReason.CIRCUIT_OPEN
    assert (provider.calls, budget.asked) == (0, [])


AT_ONCE = Reservation("1", timedelta(0), 500)


@dataclass
class ScriptedBudget:
    """A budget that answers with what a test gives it, and keeps what it is asked."""

    answers: list[Reservation | timedelta]
    paused: list[timedelta] = field(default_factory=list["timedelta"])
    asked: list[tuple[int, bool]] = field(default_factory=list["tuple[int, bool]"])
    settled: list[tuple[Reservation, int]] = field(default_factory=list["tuple[Reservation, int]"])

    async def reserve(
        self, *, tokens: int, within: timedelta, background: bool
    ) -> Reservation | timedelta:
        assert within > timedelta(0)
        self.asked.append((tokens, background))
        return self.answers.pop(0)

    async def settle(self, reservation: Reservation, *, tokens: int) -> None:
        self.settled.append((reservation, tokens))

    async def pause(self, span: timedelta) -> None:
        self.paused.append(span)


async def test_every_call_is_reserved_in_the_budget_and_an_answered_one_settled() -> None:
    answered = Reservation("2", timedelta(0), 500)
    budget = ScriptedBudget([AT_ONCE, answered])
    upstream = upstream_of(Says(passing(), answer()), budget=budget, most_tokens=500)
    await complete(upstream)
    assert budget.settled == [(answered, 120)]
    assert len(budget.asked) == 2
    assert all(tokens > 500 for tokens, _ in budget.asked)


@pytest.mark.parametrize(
    ("tokens_in", "tokens_out"), [(None, None), (70, None), (None, 9)], ids=str
)
async def test_a_call_that_does_not_say_what_it_took_keeps_what_was_reserved(
    tokens_in: int | None, tokens_out: int | None
) -> None:
    budget, usage = ScriptedBudget([AT_ONCE]), Usage()
    told = Completion(text="x" * 90, tokens_in=tokens_in, tokens_out=tokens_out)
    await complete(upstream_of(Says(told), budget=budget, most_tokens=500), usage=usage)
    assert budget.settled == []
    assert usage.tokens_in == (PROMPT.length // 3 if tokens_in is None else tokens_in)
    assert usage.tokens_out == (30 if tokens_out is None else tokens_out)


@pytest.mark.parametrize("ends", ["fails", "is refused", "is given up"])
async def test_a_call_that_does_not_end_well_keeps_what_was_reserved(ends: str) -> None:
    budget = ScriptedBudget([AT_ONCE])
    error = is_down(FailureReason.TIMEOUT if ends == "fails" else FailureReason.PROVIDER_REFUSED)
    provider = Waits() if ends == "is given up" else Says(error)
    call = asyncio.create_task(complete(upstream_of(provider, budget=budget)))
    if isinstance(provider, Waits):
        await provider.asked.wait()
        call.cancel()
    with pytest.raises((ProviderError, asyncio.CancelledError)):
        await call
    assert (len(budget.asked), budget.settled) == (1, [])


async def test_used_up_budget_is_a_rate_limit_that_says_when_to_come_back() -> None:
    provider = Says()
    upstream = upstream_of(provider, budget=ScriptedBudget([timedelta(seconds=40)]))
    with pytest.raises(ProviderError) as caught:
        await complete(upstream)
    assert caught.value.reason is FailureReason.RATE_LIMITED
    assert caught.value.retry_after == timedelta(seconds=40)
    assert provider.calls == 0


async def test_rate_limit_of_the_provider_is_passed_on_to_all_replicas() -> None:
    wait = timedelta(minutes=5)
    budget = ScriptedBudget([AT_ONCE])
    upstream = upstream_of(Says(passing(FailureReason.RATE_LIMITED, wait)), budget=budget)
    with pytest.raises(ProviderError):
        await complete(upstream)
    assert budget.paused == [wait]


async def test_background_work_waits_for_its_turn() -> None:
    budget = ScriptedBudget([timedelta(milliseconds=10), AT_ONCE])
    provider = Says()
    upstream = upstream_of(provider, budget=budget)
    deadline = Deadline.after(timedelta(seconds=5))
    await upstream.complete(PROMPT, deadline=deadline, usage=Usage(), background=True)
    assert provider.calls == 1
    assert [background for _, background in budget.asked] == [True, True]
