"""Writes one summary: asks the model, checks the answer, and asks once more if it must."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog

from services.summarizer.answers import InvalidAnswerError, read_answer
from services.summarizer.prompts import LeadFacts, Prompt, repair_prompt, write_prompt
from services.summarizer.providers import ProviderError
from services.summarizer.upstream import Deadline, Upstream, Usage
from shared.domain.summary import FailureReason, SummaryFailure, SummaryText

log = structlog.get_logger(__name__)

_CUT = "The answer reached the limit of its length (GROQ_MAX_TOKENS). Write less."


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A summary, or why there is none, and what the attempt took; `error` is for operators."""

    result: SummaryText | SummaryFailure
    usage: Usage
    latency: timedelta
    error: str | None = None


def _today() -> date:
    return datetime.now(UTC).date()


class SummaryWriter:
    """Makes a checked summary of facts, or says why there is none."""

    def __init__(self, upstream: Upstream, *, today: Callable[[], date] = _today) -> None:
        self._upstream = upstream
        self._today = today
        self.model = upstream.model

    async def write(
        self, facts: LeadFacts, *, within: timedelta, background: bool = False
    ) -> Written:
        """Return a result in time; raises `UnavailableError` when the shared budget is down."""
        usage, started, deadline = Usage(), time.monotonic(), Deadline.after(within)
        error: Exception | None = None
        try:
            async with asyncio.timeout(within.total_seconds()):
                prompt = write_prompt(facts, today=self._today())
                result: SummaryText | SummaryFailure = await self._ask(
                    prompt, deadline, usage, background=background
                )
        except (TimeoutError, InvalidAnswerError, ProviderError) as failed:
            result, error = _failure(failed), failed
        return Written(
            result=result,
            usage=usage,
            latency=timedelta(seconds=time.monotonic() - started),
            error=None if error is None else f"{type(error).__name__}: {error}",
        )

    async def _ask(
        self, prompt: Prompt, deadline: Deadline, usage: Usage, *, background: bool
    ) -> SummaryText:
        first = await self._upstream.complete(
            prompt, deadline=deadline, usage=usage, background=background
        )
        try:
            return read_answer(first.text)
        except InvalidAnswerError as error:
            complaint = _CUT if first.is_cut else str(error)
            log.warning("model.asked_again", problem=complaint)
            again = repair_prompt(prompt, answer=first.text, complaint=complaint)
        second = await self._upstream.complete(
            again, deadline=deadline, usage=usage, background=background
        )
        return read_answer(second.text)


def _failure(error: Exception) -> SummaryFailure:
    match error:
        case ProviderError():
            return SummaryFailure(error.reason, error.detail, error.retry_after)
        case InvalidAnswerError():
            return SummaryFailure(
                FailureReason.INVALID_OUTPUT, "The language model did not give a usable answer."
            )
        case _:
            return SummaryFailure(
                FailureReason.TIMEOUT, "The summary was not ready by its deadline."
            )
