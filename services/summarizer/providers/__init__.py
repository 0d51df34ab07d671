"""The port to whatever writes summaries."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from services.summarizer.prompts import Prompt
from shared.domain.summary import FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model wrote, and what it took."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0


class Provider(Protocol):
    """A language model, or what stands in for one. `name` and `model` are kept with a summary."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    async def complete(self, prompt: Prompt, *, timeout: timedelta) -> Completion:  # noqa: ASYNC109 (handed to the SDK)
        """Ask once; raises `ProviderError`."""
        ...


class ProviderError(Exception):
    """A call that failed. `detail` is for the user who asked, the message for the operator.

    `passing` says whether another try may help, `retry_after` when it may.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: FailureReason,
        detail: str,
        passing: bool = False,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.detail = detail
        self.passing = passing
        self.retry_after = retry_after
