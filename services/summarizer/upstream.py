"""Every call of the model goes through here: the one place of retries, limits and patience."""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from services.summarizer.breaker import Breaker
from services.summarizer.deadline import Deadline
from services.summarizer.prompts import Prompt
from services.summarizer.providers import Completion, Provider, ProviderError
from shared.domain.summary import FailureReason

log = structlog.get_logger(__name__)

TRIES = 3
FIRST_WAIT = timedelta(milliseconds=500)

# English has about four characters to a token, other scripts fewer; too many is the safe side.
CHARACTERS_A_TOKEN = 3


class Reservation(Protocol):
    """A place in the budget, from when on it may be used, and how to say what it took."""

    @property
    def wait(self) -> timedelta: ...

    async def settle(self, tokens: int) -> None: ...


class Budget(Protocol):
    """What all replicas together may ask of the provider per minute."""

    async def reserve(
        self, *, tokens: int, within: timedelta, background: bool
    ) -> Reservation | timedelta:
        """Return a place, or when there will be one if that is not within the given time."""
        ...

    async def pause(self, span: timedelta) -> None:
        """Let nobody call for that long: the provider said so."""
        ...


@dataclass(slots=True)
class Usage:
    """What writing one summary has taken so far."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, completion: Completion) -> None:
        """Count what a call took."""
        self.tokens_in += completion.tokens_in
        self.tokens_out += completion.tokens_out


class Upstream:
    """Calls a provider. `most_tokens` is what an answer may take, `timeout` what one try may."""

    def __init__(
        self,
        provider: Provider,
        *,
        breaker: Breaker,
        concurrency: int,
        timeout: timedelta,
        budget: Budget | None = None,
        most_tokens: int = 0,
    ) -> None:
        self._provider = provider
        self._breaker = breaker
        self._places = asyncio.Semaphore(concurrency)
        self._timeout = timeout
        self._budget = budget
        self._most_tokens = most_tokens

    async def complete(
        self, prompt: Prompt, *, deadline: Deadline, usage: Usage, background: bool = False
    ) -> Completion:
        """Return the model's answer; raises `ProviderError` when no more tries are due.

        `background` work leaves half of the budget to people who wait.
        """
        async with self._places:
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
        place = await self._reserve(prompt, deadline, background=background)
        with self._breaker.watch():
            usage.calls += 1
            try:
                completion = await self._provider.complete(
                    prompt, timeout=min(self._timeout, deadline.remaining)
                )
            except ProviderError as error:
                await self._heed(error)
                raise
        usage.add(completion)
        if place is not None:
            await place.settle(completion.tokens_in + completion.tokens_out)
        return completion

    async def _reserve(
        self, prompt: Prompt, deadline: Deadline, *, background: bool
    ) -> Reservation | None:
        if self._budget is None:
            return None
        tokens = prompt.length // CHARACTERS_A_TOKEN + self._most_tokens
        while isinstance(
            place := await self._budget.reserve(
                tokens=tokens, within=deadline.remaining, background=background
            ),
            timedelta,
        ):
            if background and place < deadline.remaining:
                await asyncio.sleep((place + FIRST_WAIT).total_seconds())
                continue
            raise ProviderError(
                "the budget is used up",
                reason=FailureReason.RATE_LIMITED,
                detail="The service's budget for the language model is used up for the moment.",
                retry_after=place,
            )
        if place.wait:
            await asyncio.sleep(place.wait.total_seconds())
        return place

    async def _heed(self, error: ProviderError) -> None:
        """Tell all replicas when the provider wants to be left alone."""
        if (
            self._budget is not None
            and error.reason is FailureReason.RATE_LIMITED
            and error.retry_after is not None
        ):
            await self._budget.pause(error.retry_after)


def _wait_after(error: ProviderError, attempt: int) -> timedelta:
    """Return what the provider asked for, and full jitter on top or instead."""
    jitter = FIRST_WAIT * 2.0 ** (attempt - 1) * random.random()  # noqa: S311 (jitter)
    return (error.retry_after or timedelta(0)) + jitter
