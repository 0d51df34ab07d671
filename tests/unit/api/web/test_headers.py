"""What clients would rather have, by their headers, and keys that are not known in time."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from services.api.storage.requests import RequestNotes
from services.api.web.headers import IdempotencyKeys, preferred_type
from shared.domain.errors import UnavailableError
from shared.events.envelope import new_id

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


class SilentNotes:
    """Notes in a Redis that never answers."""

    async def is_same_content(self, *_: Any) -> bool:
        await asyncio.Event().wait()
        return True


@pytest.mark.parametrize("key", ["a", "key 1", "~" * 255])
async def test_a_key_that_is_not_known_in_time_is_an_outage(key: str) -> None:
    keys = IdempotencyKeys(cast("RequestNotes", SilentNotes()), timeout=timedelta(milliseconds=5))
    request = cast("web.BaseRequest", make_mocked_request("POST", "/", {"Idempotency-Key": key}))
    with pytest.raises(UnavailableError, match="in time"):
        await keys.check_key(request, new_id(), lambda: "wish")
