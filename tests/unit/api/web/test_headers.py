"""What clients would rather have, by their headers."""

import pytest
from multidict import CIMultiDict

from services.api.web.headers import preferred_type

JSON, EVENTS = "application/json", "text/event-stream"


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        # Clients that name whatever the document lists, the stream of events among it.
        (["application/json, text/event-stream"], JSON),
        (["text/event-stream", "application/json"], JSON),
        (["text/event-stream, application/json, application/problem+json"], JSON),
        (["text/event-stream;q=0.9, application/json"], JSON),
        (["text/event-stream; q=0, */*;q=0.1"], JSON),
        (["text/event-stream;q=0.5,application/*;q=0.5"], JSON),
        ([], JSON),
        (["*/*"], JSON),
        (["application/json, text/plain, */*"], JSON),
        # Those that want nothing of what there is.
        (["text/html"], JSON),
        (["text/event-stream;q=0"], JSON),
        (["text/*"], JSON),
        (["application/json;q=0, */*"], JSON),
        # Those that prefer events.
        (["text/event-stream"], EVENTS),
        (["TEXT/Event-Stream; charset=utf-8"], EVENTS),
        (["text/event-stream, application/problem+json"], EVENTS),
        (["text/event-stream, */*;q=0.1"], EVENTS),
        (["application/json;q=0.5", "text/event-stream;q=0.75"], EVENTS),
        (["application/*;q=0.2, text/event-stream;q=0.3"], EVENTS),
    ],
)
def test_events_come_where_they_are_liked_better(accept: list[str], preferred: str) -> None:
    headers = CIMultiDict([("Accept", one) for one in accept])
    assert preferred_type(headers, JSON, EVENTS) == preferred
