"""What a summary is, and every reason why there may be none."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

MAX_LENGTH = 1_000


class FailureReason(StrEnum):
    """Why a request for a summary failed; the API's answer depends on it."""

    INVALID_OUTPUT = "invalid-output"
    RATE_LIMITED = "rate-limited"
    QUOTA = "quota"
    PROVIDER_UNAVAILABLE = "provider-unavailable"
    PROVIDER_REFUSED = "provider-refused"
    TIMEOUT = "timeout"
    CIRCUIT_OPEN = "circuit-open"
    EXPIRED = "expired"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class SummaryText:
    """What a model wrote: both are plain text of 1 to `MAX_LENGTH` characters."""

    summary: str
    next_action: str


@dataclass(frozen=True, slots=True)
class SummaryFailure:
    """Why there is no summary, in words fit for the client; `retry_after` when that is known."""

    reason: FailureReason
    detail: str
    retry_after: timedelta | None = None
