"""The types of arguments, and the options by which commands select events."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click

from shared.events.catalog import FLOWS
from shared.events.envelope import now
from shared.events.replay import Selection
from shared.streams.codec import parse_entry_id

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"([0-9]+)([smhdw])")
# PostgreSQL counts in 63 bits.
LARGEST_NUMBER = 2**63 - 1
# Nothing here is older, and databases count from it.
FIRST_YEAR = 1970
LONGEST_TEXT = 1_000

TYPES = sorted({flow.event.type for flow in FLOWS})


class Text(click.ParamType[str]):
    """A text that databases can hold; of an id only the case is changed."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, of a UUID its canonical form."""
        text = str(value)
        if not text or len(text) > LONGEST_TEXT or not is_storable(text):
            self.fail(f"{text[:80]!r} is empty, too long or no text", param, ctx)
        return canonical(text) or text


class LeadKey(click.ParamType[str]):
    """A lead's id or externalId."""

    name = "uuid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return its canonical form."""
        key = canonical(str(value))
        if key is None:
            self.fail(f"{str(value)[:80]!r} is neither a lead's id nor an externalId", param, ctx)
        return key


class EntryId(click.ParamType[str]):
    """The id of an entry of a stream."""

    name = "entry-id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id in full."""
        entry_id = parse_entry_id(str(value))
        if entry_id is None:
            text = str(value)[:80]
            self.fail(f"{text!r} is no entry id such as 1700000000000-0", param, ctx)
        return entry_id


class Moment(click.ParamType[datetime]):
    """A time, ISO 8601 (UTC unless it says otherwise), or a span ago such as `90m` or `7d`."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            moment = _moment(str(value))
        except (ValueError, OverflowError):
            text = str(value)[:80]
            self.fail(
                f"{text!r} is neither an ISO 8601 time nor a span such as 90m, after {FIRST_YEAR}",
                param,
                ctx,
            )
        return moment


class Seconds(click.FloatRange):
    """A number above zero that is one."""

    def __init__(self, *, most: float) -> None:
        super().__init__(min=0, min_open=True, max=most)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("is no number", param, ctx)
        return number


def canonical(text: str) -> str | None:
    """Return a UUID's canonical form; None for what is none."""
    try:
        return str(UUID(text)) if len(text) == len(str(UUID(int=0))) else None
    except ValueError:
        return None


def is_storable(text: str) -> bool:
    """Return whether a text can be UTF-8 in a database; bytes that are none come as surrogates."""
    return re.search("[\0\ud800-\udfff]", text) is None


def _moment(text: str) -> datetime:
    if ago := _AGO.fullmatch(text):
        moment = now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    else:
        read = datetime.fromisoformat(text)
        moment = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    if moment.year < FIRST_YEAR:
        raise ValueError(text)
    return moment


limit = click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="How many, newest first.",
)


def selecting(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options; the command passes them on to `selection`."""
    for option in (
        click.option("--correlation", type=Text(), help="Only with this correlation id."),
        click.option("--until", type=Moment(), help="Only made before this time."),
        click.option("--since", type=Moment(), help="Only made at or after this time."),
        click.option(
            "--lead",
            "leads",
            type=LeadKey(),
            multiple=True,
            help="Only about the lead with this id or externalId. Repeatable.",
        ),
        click.option(
            "--type",
            "types",
            type=click.Choice(TYPES),
            metavar="TYPE",
            multiple=True,
            help="Only of this type. Repeatable.",
        ),
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
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be before --until.")
    return Selection(
        types=types, lead_ids=leads, since=since, until=until, correlation_id=correlation
    )
