"""Cursors and page sizes."""

import base64
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from services.api.paging import DEFAULT_LIMIT, decode_cursor, encode_cursor, parse_page_query
from services.api.problems import Problem
from shared.storage.lead_repository import PagePosition

TIMES = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 (the strategy adds the zone)
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(TIMES, st.uuids())
def test_a_cursor_leads_back_to_its_lead(created_at: datetime, lead_id: UUID) -> None:
    position = PagePosition(created_at, lead_id)
    assert decode_cursor(encode_cursor(position)) == position


@given(st.text(max_size=60))
def test_no_text_does_worse_than_be_refused(text: str) -> None:
    with suppress(Problem):
        decode_cursor(text)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "abc",
        "' OR 1=1 --",
        "é" * 32,
        encode_cursor(PagePosition(datetime.now(UTC), uuid4())) + "A",
        encode_cursor(PagePosition(datetime.now(UTC), uuid4())) + "!",
        base64.urlsafe_b64encode(b"\x7f" + b"\xff" * 23).decode(),
    ],
)
def test_a_cursor_of_ones_own_making_is_refused(cursor: str) -> None:
    with pytest.raises(Problem) as raised:
        decode_cursor(cursor)
    assert raised.value.status == 400


def test_a_page_has_a_hundred_leads_unless_asked_otherwise() -> None:
    assert parse_page_query(MultiDict()).limit == DEFAULT_LIMIT == 100
    assert parse_page_query(MultiDict(limit="500")).limit == 500


@pytest.mark.parametrize("limit", ["0", "501", "-1", "1.5", "ten", "", "٣", "1e2", "9" * 5000])
def test_a_senseless_limit_is_refused(limit: str) -> None:
    with pytest.raises(Problem) as raised:
        parse_page_query(MultiDict(limit=limit))
    assert raised.value.errors == {"limit": "Must be a whole number from 1 to 500"}


@pytest.mark.parametrize("query", [[("page", "2")], [("limit", "1"), ("limit", "2")]])
def test_nothing_is_quietly_ignored(query: list[tuple[str, str]]) -> None:
    with pytest.raises(Problem) as raised:
        parse_page_query(MultiDict(query))
    assert raised.value.errors is not None
    assert query[0][0] in raised.value.errors
