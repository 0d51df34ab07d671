"""The options by which commands select events."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from shared.events.envelope import now
from shared.events.replay import Selection

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d+)([smhdw])")


class Moment(click.ParamType[datetime]):
    """A time, ISO 8601 (UTC unless it says otherwise), or a span ago such as `90m` or `7d`."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment in UTC."""
        if isinstance(value, datetime):
            return value
        if ago := _AGO.fullmatch(value):
            return now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither an ISO 8601 time nor a span such as 90m", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def selecting(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command passes them on to `selection`."""
    for option in (
        click.option("--correlation", help="Only with this correlation id."),
        click.option("--until", type=Moment(), help="Only made before this time."),
        click.option("--since", type=Moment(), help="Only made at or after this time."),
        click.option("--lead", "leads", multiple=True, help="Only about this lead. Repeatable."),
        click.option("--type", "types", multiple=True, help="Only of this type. Repeatable."),
    ):
        function = option(function)
    return function


def selection(
    *,
    types: tuple[str, ...],
    leads: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    correlation: str | None,
) -> Selection:
    """Return what the options select."""
    return Selection(
        types=types, lead_ids=leads, since=since, until=until, correlation_id=correlation
    )
