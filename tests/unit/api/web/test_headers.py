"""What clients would rather have, by their headers, and keys that are not known in time."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from services.api.storage.requests import RequestNotes
from services.api.web.headers import (
    IdempotencyKeys,
    entity_tags,
    only_value,
    preferred_type,
    versions_of,
)
from services.api.web.problems import Problem
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


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        (['"2"'], {'"2"'}),
        (['W/"2"'], {'"2"'}),
        (['"2","3"'], {'"2"', '"3"'}),
        (['"2" \t,\t W/"3"', '"4"'], {'"2"', '"3"', '"4"'}),
        # A comma is a part of a tag, and elements may be empty.
        (['"2,3"'], {'"2,3"'}),
        (['"2,"3"'], None),
        ([', "2",, ,"3",'], {'"2"', '"3"'}),
        (['""'], {'""'}),
        (['"\udcc3\udca4"'], {'"\udcc3\udca4"'}),
        ([" * "], set[str]()),
        *(
            ([text], None)
            for text in ("", ",", "2", "'2'", '"2', '2"', '"2"junk', 'junk"2"', '""2""')
        ),
        *(([text], None) for text in ('"2" "3"', '"2";"3"', 'w/"2"', 'W/ "2"', "W/2", '"2 3"')),
        *(([text], None) for text in ('*, "2"', "**", '"2", *', '"\x7f"')),
        (['"2"', "junk"], None),
        (["*", "*"], None),
    ],
)
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
def test_entity_tags_are_read_as_a_list(lines: list[str], tags: set[str] | None, name: str) -> None:
    headers = CIMultiDict([(name, line) for line in lines])
    if tags is None:
        with pytest.raises(Problem) as caught:
            entity_tags(headers, name)
        assert caught.value.errors == {name: 'Must be an ETag such as "2", or *'}
    else:
        assert entity_tags(headers, name) == (tags or None)


def test_a_version_has_one_way_to_be_written() -> None:
    tags = ['"2"', '"3-gzip"', '"4;br"', '"05"', '"0"', '"6x"', '"7,8"', '"-9"', '"1e1"', '""']
    assert versions_of([*tags, f'"{10**18}"']) == {2, 3, 4}


def test_a_header_with_one_value_is_there_once() -> None:
    headers = CIMultiDict([("A", "1"), ("B", "1"), ("b", "2")])
    assert (only_value(headers, "a"), only_value(headers, "c")) == ("1", None)
    with pytest.raises(Problem) as caught:
        only_value(headers, "B")
    assert (caught.value.status, caught.value.errors) == (400, {"B": "Must be there once"})
