"""lead-changed: write summaries of leads that are new, when nobody waits for them."""

from collections.abc import Sequence
from typing import cast
from uuid import uuid5

from shared.events.envelope import Event
from shared.events.lead_events import LeadChanged
from shared.events.outcome import Outcome, OutcomeStatus
from shared.events.summary_events import SummaryRequested
from shared.streams.consuming.subscription import Handler

REQUESTED_BY = "auto-summary"


class LeadChangedHandler:
    """Has every lead that was created summarised, behind the people who wait for theirs.

    It follows what was committed and not what was asked for: a lead that was a duplicate
    never comes by here, and one that does can be read.
    """

    def __init__(self, summarise: Handler) -> None:
        self._summarise = summarise

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        """Apply each event; changes other than a creation are passed over."""
        for event in events:
            if cast("LeadChanged", event.data).change == "created" and event.replay_id is None:
                await self._summarise([_request(event)])
        return [Outcome(OutcomeStatus.SUMMARISED, answered=False) for _ in events]


def _request(event: Event) -> Event:
    lead_id = cast("LeadChanged", event.data).lead_id
    return Event(
        # One per lead, however often its creation is told.
        id=uuid5(lead_id, REQUESTED_BY),
        time=event.time,
        source="summarizer",
        subject=str(lead_id),
        correlation_id=event.correlation_id,
        data=SummaryRequested(lead_id=lead_id, background=True),
    )
