"""What people read: spans, sizes and times."""

from datetime import timedelta

import click
import pytest

from ops.selecting import Moment
from shared.administration.wording import size, span
from shared.events.envelope import now


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (timedelta(milliseconds=250), "0.2 s"),
        (timedelta(minutes=90), "1.5 h"),
        (timedelta(days=3), "3.0 d"),
    ],
)
def test_spans_are_in_their_largest_unit(value: timedelta | None, text: str) -> None:
    assert span(value) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1_500, "2 kB"), (2_500_000, "2 MB")])
def test_sizes_are_in_their_largest_unit(count: int, text: str) -> None:
    assert size(count) == text


def test_times_are_utc_unless_they_say_otherwise() -> None:
    moment = Moment()
    assert moment.convert("2026-01-02T03:04", None, None).isoformat() == "2026-01-02T03:04:00+00:00"
    plus_two = moment.convert("2026-01-02T03:04+02:00", None, None)
    assert plus_two.isoformat() == "2026-01-02T01:04:00+00:00"
    ago = moment.convert("90m", None, None)
    assert timedelta(0) <= now() - ago - timedelta(minutes=90) < timedelta(seconds=5)
    with pytest.raises(click.BadParameter):
        moment.convert("90 minutes", None, None)
