"""Requests and tokens per minute, counted over the last sixty seconds as Groq does."""

from collections import deque
from collections.abc import Callable
from datetime import timedelta

from devstack.standins.groq.errors import GroqError
from devstack.standins.groq.settings import GroqFaults

WINDOW = timedelta(minutes=1)
REQUESTS_A_DAY = 14_400
UNLIMITED_TOKENS = 1_000_000

Clock = Callable[[], float]


class RateLimits:
    """The calls of the last minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def admit(self, model: str, *, tokens: int, faults: GroqFaults) -> None:
        """Counts a call, or raises the error that turns it away."""
        self._forget()
        self._check_requests(model, faults.rate_limit_rpm)
        self._check_tokens(model, tokens=tokens, limit=faults.rate_limit_tpm)
        self._calls.append((self._clock(), tokens))
        self._tokens += tokens

    def headers(self, faults: GroqFaults) -> dict[str, str]:
        self._forget()
        requests_left = max(0, REQUESTS_A_DAY - len(self._calls))
        tokens = faults.rate_limit_tpm or UNLIMITED_TOKENS
        return {
            # Groq's request figures are of a day, its token figures of a minute.
            "x-ratelimit-limit-requests": str(REQUESTS_A_DAY),
            "x-ratelimit-remaining-requests": str(requests_left),
            "x-ratelimit-reset-requests": "6s",
            "x-ratelimit-limit-tokens": str(tokens),
            "x-ratelimit-remaining-tokens": str(max(0, tokens - self._tokens)),
            "x-ratelimit-reset-tokens": f"{self._wait().total_seconds():.3f}s",
        }

    def _check_requests(self, model: str, limit: int | None) -> None:
        if limit is None or len(self._calls) < limit:
            return
        raise self._limited(
            model,
            kind="requests",
            figures=f"requests per minute (RPM): Limit {limit}, "
            f"Used {len(self._calls)}, Requested 1",
        )

    def _check_tokens(self, model: str, *, tokens: int, limit: int | None) -> None:
        if limit is None:
            return
        if tokens > limit:
            raise GroqError(
                f"Request too large for model `{model}` in organization `org_standin` service tier "
                f"`on_demand` on tokens per minute (TPM): Limit {limit}, Requested {tokens}, "
                "please reduce your message size and try again.",
                status=413,
                kind="tokens",
                code="rate_limit_exceeded",
            )
        if self._tokens + tokens > limit:
            raise self._limited(
                model,
                kind="tokens",
                figures=f"tokens per minute (TPM): Limit {limit}, "
                f"Used {self._tokens}, Requested {tokens}",
            )

    def _limited(self, model: str, *, kind: str, figures: str) -> GroqError:
        wait = self._wait()
        error = GroqError(
            f"Rate limit reached for model `{model}` in organization `org_standin` service tier "
            f"`on_demand` on {figures}. Please try again in {wait.total_seconds():.3f}s.",
            status=429,
            kind=kind,
            code="rate_limit_exceeded",
        )
        error.retry_after = timedelta(seconds=int(wait.total_seconds()) + 1)
        return error

    def _wait(self) -> timedelta:
        """Until the oldest call of the minute no longer counts."""
        if not self._calls:
            return timedelta(0)
        return max(timedelta(0), WINDOW - timedelta(seconds=self._clock() - self._calls[0][0]))

    def _forget(self) -> None:
        start = self._clock() - WINDOW.total_seconds()
        while self._calls and self._calls[0][0] <= start:
            _, tokens = self._calls.popleft()
            self._tokens -= tokens
