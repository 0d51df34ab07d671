"""Ends requests that are past their deadline because the process that worked on them died."""

from datetime import timedelta

import structlog

from services.summarizer.storage.records import failure_body
from services.summarizer.storage.results import SummaryResults
from shared.background import repeat
from shared.domain.summary import FailureReason, SummaryFailure
from shared.events.outcome import Outcome, OutcomeStatus
from shared.observability.outages import Outages
from shared.streams.replies import LateReplies, Reply

log = structlog.get_logger(__name__)

EVERY = timedelta(seconds=5)
# A worker that lives ends its request at the deadline itself, and may take this long to say so.
GRACE = timedelta(seconds=15)

EXPIRED = SummaryFailure(
    FailureReason.EXPIRED, "The summary was given up: whoever worked on it did not come back."
)


class Sweeper:
    """Runs in every replica; each late request is ended by one of them."""

    def __init__(
        self,
        results: SummaryResults,
        replies: LateReplies,
        *,
        every: timedelta = EVERY,
        grace: timedelta = GRACE,
    ) -> None:
        self._results = results
        self._replies = replies
        self._every = every
        self._grace = grace

    async def run(self) -> None:
        """Sweep, forever."""
        await repeat(
            self.sweep, every=self._every, outages=Outages(), activity="sweeping summaries"
        )

    async def sweep(self) -> int:
        """End what is late; returns how many requests failed by it."""
        expired = await self._results.expire(EXPIRED, grace=self._grace)
        if expired:
            log.warning(
                "summary.failed",
                reason=EXPIRED.reason,
                each=[{"event_id": one.id, "lead_id": one.lead_id} for one in expired],
            )
        outcome = Outcome(OutcomeStatus.FAILED, failure_body(EXPIRED))
        await self._replies.send(
            [
                Reply(request.reply_to, request.id, outcome)
                for request in expired
                if request.reply_to is not None
            ]
        )
        return len(expired)
