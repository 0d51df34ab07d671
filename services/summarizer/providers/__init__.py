"""The port to whatever writes summaries."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from services.summarizer.prompts import Prompt
from shared.domain.summary import FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model wrote, and what it took, as far as the provider says so.

    `is_cut` says that the model reached the limit of what it may write.
    """

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None
    is_cut: bool = False


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
