"""Every call of the model goes through here: the one place of retries, limits and waits."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, Self

import structlog

from services.summarizer.prompts import Prompt
from services.summarizer.providers import Completion, Provider, ProviderError
from shared.domain.summary import FailureReason
from shared.observability import tracing
from shared.observability.metrics import counter, gauge, histogram

log = structlog.get_logger(__name__)

_CALLS = histogram(
    "leads_model_call_seconds",
    "Calls of the model, retries included, by how each ended: ok, or the reason of its failure.",
    ["model", "result"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_TOKENS = counter(
    "leads_model_tokens_total",
    "Tokens that the model took; estimated where the provider does not say.",
    ["model", "way"],
)
_CIRCUIT = gauge(
    "leads_model_circuit_open",
    "1 while calls of the model are turned away after a run of failures.",
)
# How a call can end; the other reasons are a request's.
_RESULTS = (
    "ok",
    FailureReason.PROVIDER_UNAVAILABLE,
    FailureReason.PROVIDER_REFUSED,
    FailureReason.RATE_LIMITED,
    FailureReason.TIMEOUT,
    FailureReason.INVALID_OUTPUT,
)

TRIES = 3
FIRST_WAIT = timedelta(milliseconds=500)

# English has about four characters to a token, other scripts fewer; too many is the safe side.
CHARACTERS_A_TOKEN = 3

_OUTAGES = {FailureReason.PROVIDER_UNAVAILABLE, FailureReason.TIMEOUT}


@dataclass(frozen=True, slots=True)
class Deadline:
    """Measured by the monotonic clock: setting the wall clock does not move it."""

    _at: float

    @classmethod
    def after(cls, span: timedelta) -> Self:
        """Return the deadline that lies `span` ahead."""
        return cls(time.monotonic() + span.total_seconds())

    @property
    def remaining(self) -> timedelta:
        """Return the time left, never less than zero."""
        return timedelta(seconds=max(0.0, self._at - time.monotonic()))


@dataclass(slots=True)
class Usage:
    """What has been taken so far: to write one summary, or altogether."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def tokens(self) -> int:
        """Both ways together."""
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call in the budget: it may be made after `wait`, and counts as `tokens` until settled."""

    id: str
    wait: timedelta
    tokens: int


class Budget(Protocol):
    """What all replicas together may ask of the provider per minute."""

    async def reserve(
        self, *, tokens: int, within: timedelta, background: bool
    ) -> Reservation | timedelta:
        """Return a reservation, or when there will be one if that is not within the given time."""
        ...

    async def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Replace the estimate with what the call took."""
        ...

    async def pause(self, span: timedelta) -> None:
        """Let no replica call for that long: the provider said so."""
        ...


class ModelCircuit:
    """After a run of failures, spares further requests the wait for the next one.

    Opens after `failures` failures in a row; after `pause` one call may try again.
    """

    def __init__(
        self, *, failures: int, pause: timedelta, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = failures
        self._pause = pause.total_seconds()
        self._clock = clock
        self._failures = 0
        self._answers = 0
        self._opened_at: float | None = None
        self._probing = False
        _CIRCUIT.set_function(lambda: float(self.is_open))

    @property
    def is_open(self) -> bool:
        """Whether calls are turned away."""
        return self._opened_at is not None

    @contextlib.contextmanager
    def watch(self) -> Generator[None]:
        """Run one call; raises `ProviderError` with reason `circuit-open` instead of trying it."""
        probing, answers = self._admit(), self._answers
        try:
            yield
        except ProviderError as error:
            if error.reason in _OUTAGES:
                self._count_failure(error.reason, answers_before=answers)
            elif error.reason is not FailureReason.RATE_LIMITED:
                self._count_answer()
            raise
        else:
            self._count_answer()
        finally:
            if probing:
                self._probing = False

    def check(self) -> None:
        """Raise `ProviderError` with reason `circuit-open` where a call would not be tried."""
        if self._opened_at is None:
            return
        left = self._opened_at + self._pause - self._clock()
        if left > 0 or self._probing:
            raise ProviderError(
                "the circuit is open",
                reason=FailureReason.CIRCUIT_OPEN,
                detail="The language model is not available at the moment.",
                retry_after=timedelta(seconds=max(left, 1)),
            )

    def _admit(self) -> bool:
        """Let a call through, or not; True for the one that probes an open circuit."""
        self.check()
        self._probing = self._opened_at is not None
        return self._probing

    def _count_failure(self, reason: FailureReason, *, answers_before: int) -> None:
        if reason is FailureReason.TIMEOUT and answers_before < self._answers:
            # Calls that began together time out together, which is a run of them. Where others
            # were answered meanwhile it is no outage.
            return
        self._failures += 1
        if self._failures >= self._most:
            if self._opened_at is None:
                log.warning("model.circuit_opened", failures=self._failures)
            self._opened_at = self._clock()

    def _count_answer(self) -> None:
        if self._opened_at is not None:
            log.info("model.circuit_closed")
        self._answers += 1
        self._failures = 0
        self._opened_at = None


class Upstream:
    """Calls a provider. `most_tokens` is what an answer may take, `timeout` what one try may."""

    def __init__(
        self,
        provider: Provider,
        *,
        circuit: ModelCircuit,
        concurrency: int,
        timeout: timedelta,
        budget: Budget | None = None,
        most_tokens: int = 0,
    ) -> None:
        self._provider = provider
        self.model = provider.model
        self._circuit = circuit
        self._at_once = asyncio.Semaphore(concurrency)
        self._timeout = timeout
        self._budget = budget
        self._most_tokens = most_tokens
        self.total = Usage()
        self._seconds = {result: _CALLS.labels(provider.model, result) for result in _RESULTS}
        self._tokens = {way: _TOKENS.labels(provider.model, way) for way in ("in", "out")}

    async def complete(
        self, prompt: Prompt, *, deadline: Deadline, usage: Usage, background: bool = False
    ) -> Completion:
        """Return the model's answer; raises `ProviderError` when no more tries are due.

        `background` work leaves half of the budget to people who wait.
        """
        async with self._at_once:
            for attempt in range(1, TRIES + 1):
                try:
                    return await self._try(prompt, deadline, usage, background=background)
                except ProviderError as error:
                    wait = _wait_after(error, attempt)
                    if not error.passing or attempt == TRIES or wait >= deadline.remaining:
                        raise
                    log.info(
                        "model.retried", attempt=attempt, reason=error.reason, error=str(error)
                    )
                    await asyncio.sleep(wait.total_seconds())
        raise AssertionError("unreachable")

    async def _try(
        self, prompt: Prompt, deadline: Deadline, usage: Usage, *, background: bool
    ) -> Completion:
        # First: what is not tried takes nothing of the budget.
        self._circuit.check()
        reservation = await self._reserve(prompt, deadline, background=background)
        with self._circuit.watch():
            usage.calls += 1
            self.total.calls += 1
            try:
                completion = await self._call(prompt, deadline)
            except ProviderError as error:
                await self._pause_if_asked(error)
                raise
        tokens_in, tokens_out = completion.tokens_in, completion.tokens_out
        self._count_tokens(prompt, completion, usage)
        # A call of which that is not told keeps what was reserved for it, as one that failed does.
        if self._budget and reservation and tokens_in is not None and tokens_out is not None:
            await self._budget.settle(reservation, tokens=tokens_in + tokens_out)
        return completion

    async def _call(self, prompt: Prompt, deadline: Deadline) -> Completion:
        started, result = time.monotonic(), "ok"
        try:
            return await self._ask(prompt, deadline)
        except ProviderError as error:
            result = error.reason
            raise
        except asyncio.CancelledError:
            result = FailureReason.TIMEOUT  # the request's own, unless this process stops
            raise
        finally:
            self._seconds[result].observe(time.monotonic() - started)

    async def _ask(self, prompt: Prompt, deadline: Deadline) -> Completion:
        provider, timeout = self._provider, min(self._timeout, deadline.remaining)
        if tracing.tracer is None:
            return await provider.complete(prompt, timeout=timeout)
        with tracing.tracer.chat(provider.name, provider.model) as chat:
            completion = await provider.complete(prompt, timeout=timeout)
            if chat is not None:
                chat.took(completion.tokens_in, completion.tokens_out)
            return completion

    def _count_tokens(self, prompt: Prompt, completion: Completion, usage: Usage) -> None:
        tokens_in, tokens_out = completion.tokens_in, completion.tokens_out
        tokens_in = _tokens(prompt.length) if tokens_in is None else tokens_in
        tokens_out = _tokens(len(completion.text)) if tokens_out is None else tokens_out
        for counted in (usage, self.total):
            counted.tokens_in += tokens_in
            counted.tokens_out += tokens_out
        self._tokens["in"].inc(tokens_in)
        self._tokens["out"].inc(tokens_out)

    async def _reserve(
        self, prompt: Prompt, deadline: Deadline, *, background: bool
    ) -> Reservation | None:
        """Wait until the budget allows a call; background work may wait more than once."""
        if self._budget is None:
            return None
        tokens = _tokens(prompt.length) + self._most_tokens
        while isinstance(
            reserved := await self._budget.reserve(
                tokens=tokens, within=deadline.remaining, background=background
            ),
            timedelta,
        ):
            if background and reserved < deadline.remaining:
                await asyncio.sleep((reserved + FIRST_WAIT).total_seconds())
                continue
            raise ProviderError(
                "the budget is used up",
                reason=FailureReason.RATE_LIMITED,
                detail="The service's budget for the language model is used up for the moment.",
                retry_after=reserved,
            )
        if reserved.wait:
            await asyncio.sleep(reserved.wait.total_seconds())
        return reserved

    async def _pause_if_asked(self, error: ProviderError) -> None:
        """Have all replicas pause when the provider asks for it."""
        if (
            self._budget is not None
            and error.reason is FailureReason.RATE_LIMITED
            and error.retry_after is not None
        ):
            log.warning("model.paused", seconds=round(error.retry_after.total_seconds(), 1))
            await self._budget.pause(error.retry_after)


def _tokens(characters: int) -> int:
    return characters // CHARACTERS_A_TOKEN


def _wait_after(error: ProviderError, attempt: int) -> timedelta:
    """Return what the provider asked for, and full jitter on top or instead."""
    jitter = FIRST_WAIT * 2.0 ** (attempt - 1) * random.random()  # noqa: S311 (jitter)
    return (error.retry_after or timedelta(0)) + jitter
