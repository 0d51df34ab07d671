"""lead-changed: write summaries of leads that are new, in the background."""

from collections.abc import Sequence
from uuid import uuid5

from shared.events.data import LeadChanged, SummaryRequested
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.streams.consuming.subscription import Handler

REQUESTED_BY = "auto-summary"


class LeadChangedHandler:
    """Summarises every lead that was created; requests of people go first.

    It follows what was committed and not what was asked for: there is no lead-changed for a
    duplicate, and the lead of each one can be read.
    """

    def __init__(self, summarise: Handler) -> None:
        self._summarise = summarise

    async def __call__(self, events: Sequence[Event[LeadChanged]]) -> Sequence[Outcome]:
        """Apply each event; changes other than a creation are passed over."""
        for event in events:
            if event.data.change == "created" and event.replay_id is None:
                await self._summarise([_request(event)])
        return [Outcome(OutcomeStatus.SUMMARISED, answered=False) for _ in events]


def _request(event: Event[LeadChanged]) -> Event[SummaryRequested]:
    lead_id = event.data.lead_id
    return Event(
        # One for each lead, however often its creation is delivered.
        id=uuid5(lead_id, REQUESTED_BY),
        time=event.time,
        source="summarizer",
        subject=str(lead_id),
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
        data=SummaryRequested(lead_id=lead_id, background=True),
    )
