"""The schedule says since when a sync should have succeeded."""

from datetime import UTC, datetime

import pytest

from services.syncer.schedule import expected_since

FRIDAY = datetime(2026, 11, 27, 9, 5, tzinfo=UTC)
SUNDAY = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "now", "expected"),
    [
        ("*/2 * * * *", FRIDAY, datetime(2026, 11, 27, 9, 0, tzinfo=UTC)),
        ("0 9 * * *", FRIDAY, datetime(2026, 11, 25, 9, 0, tzinfo=UTC)),
        # On workdays: nothing is late because of a weekend.
        ("0 9 * * 1-5", SUNDAY, datetime(2026, 11, 25, 9, 0, tzinfo=UTC)),
        ("*/10 * * * * *", FRIDAY, datetime(2026, 11, 27, 9, 4, 30, tzinfo=UTC)),
    ],
)
def test_three_ticks_may_fail(cron: str, now: datetime, expected: datetime) -> None:
    tick = expected_since(cron, now)

    assert tick == expected
