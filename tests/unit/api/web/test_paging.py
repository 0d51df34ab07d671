"""Cursors and page sizes."""

import base64
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from services.api.storage.pages import Position
from services.api.web.paging import DEFAULT_LIMIT, PageQuery, decode_cursor, encode_cursor
from services.api.web.problems import Problem
from services.api.web.query import parse_query

LEAD = UUID("5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11")
NAME_MAX_LENGTH = 50
TIMES = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 (the strategy adds the zone)
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50
)


@given(TIMES, st.uuids(), st.text(max_size=20))
def test_a_cursor_leads_back_to_its_time(time: datetime, row_id: UUID, scope: str) -> None:
    position = Position(time, row_id)
    assert decode_cursor(encode_cursor(position, scope=scope), scope=scope) == position


@given(NAMES, st.uuids())
def test_a_cursor_leads_back_to_its_name(name: str, row_id: UUID) -> None:
    position = Position(name, row_id)
    cursor = encode_cursor(position, scope="names")
    assert decode_cursor(cursor, scope="names", by_time=False) == position


@pytest.mark.parametrize("letter", ["\ufdfa", "\u3388", "\U0001d7ff", "x"])
def test_a_cursor_leads_back_to_the_longest_name(letter: str) -> None:
    """Folded, a name may be many times as long as it was given."""
    position = Position(unicodedata.normalize("NFKD", letter * NAME_MAX_LENGTH).lower(), LEAD)
    cursor = encode_cursor(position, scope="names")
    assert decode_cursor(cursor, scope="names", by_time=False) == position


@given(st.text(max_size=80), st.booleans())
def test_no_text_does_worse_than_be_refused(text: str, by_time: bool) -> None:  # noqa: FBT001 (drawn)
    with suppress(Problem):
        decode_cursor(text, scope="", by_time=by_time)


@given(st.one_of(TIMES, NAMES), st.booleans())
def test_a_cursor_of_another_list_is_refused(key: datetime | str, by_time: bool) -> None:  # noqa: FBT001 (drawn)
    cursor = encode_cursor(Position(key, uuid4()), scope="these")
    with pytest.raises(Problem) as raised:
        decode_cursor(cursor, scope="those", by_time=by_time)
    assert raised.value.status == 400
    assert list(raised.value.errors or ()) == ["after"]


@pytest.mark.parametrize("seen", [0, 1, 22_000_000_000, 2**62])
@pytest.mark.parametrize(
    ("key", "by_time"), [(datetime(2026, 1, 1, tzinfo=UTC), True), ("hopper", False), ("", False)]
)
def test_a_cursor_carries_what_was_seen(key: datetime | str, seen: int, *, by_time: bool) -> None:
    position = Position(key, LEAD, seen)
    cursor = encode_cursor(position, scope="these")
    assert decode_cursor(cursor, scope="these", by_time=by_time) == position
    with pytest.raises(Problem):
        decode_cursor(cursor, scope="those", by_time=by_time)
    with pytest.raises(Problem):
        decode_cursor(cursor[:-1], scope="these", by_time=by_time)


GOOD = encode_cursor(Position(datetime(2026, 1, 1, tzinfo=UTC), LEAD), scope="")
WITH_NUL = encode_cursor(Position("a\0b", LEAD), scope="")


@pytest.mark.parametrize(
    ("cursor", "by_time"),
    [
        ("", True),
        ("abc", True),
        ("' OR 1=1 --", True),
        ("é" * 43, True),
        (GOOD + "A", True),
        (GOOD + "!", True),
        (GOOD + "=", True),
        (base64.urlsafe_b64encode(b"\x7f" + b"\xff" * 31).decode(), True),
        (WITH_NUL, False),
        ("A" * 4_000, False),
    ],
)
def test_a_cursor_of_ones_own_making_is_refused(cursor: str, by_time: bool) -> None:  # noqa: FBT001 (a parameter of the table)
    with pytest.raises(Problem) as raised:
        decode_cursor(cursor, scope="", by_time=by_time)
    assert raised.value.status == 400


def test_a_page_has_a_hundred_rows_unless_asked_otherwise() -> None:
    assert parse_query(PageQuery, MultiDict()).limit == DEFAULT_LIMIT == 100
    assert parse_query(PageQuery, MultiDict(limit="500")).limit == 500


@pytest.mark.parametrize("limit", ["0", "501", "-1", "1.5", "ten", "", "٣", "1e2", "9" * 5000])
def test_a_senseless_limit_is_refused(limit: str) -> None:
    with pytest.raises(Problem) as raised:
        parse_query(PageQuery, MultiDict(limit=limit))
    assert raised.value.errors == {"limit": "Must be a whole number from 1 to 500"}
