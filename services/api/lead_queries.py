"""The parameters of the list of leads and of its export."""

import contextlib
import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from services.api.paging import PageQuery
from services.api.query_parameters import Query
from shared.domain.lead import LeadStatus, email_key
from shared.domain.lead_file import FileFormat
from shared.events.lead_fields import TEXT, Cleaned
from shared.storage.lead_filters import MOST_WORDS, LeadFilters
from shared.storage.lead_search import LeadSort

LONGEST_TEXT = 100
EMAIL_LIKE = "^[^@\\u0000-\\u001f\\u007f-\\u009f]+@[^@\\u0000-\\u001f\\u007f-\\u009f]+$"

_timestamp = re.compile(
    r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d))?", re.ASCII
).fullmatch
_accents = re.compile("[\u0300-\u036f]")
_searchable = re.compile(r"[^\W_]").search


def _check_email(value: str) -> str:
    if "@" not in value.strip("@"):
        raise PydanticCustomError("email", "Must be an e-mail address")
    return value


def _instant(value: Any) -> datetime:
    """Return a time in UTC. A date is its first moment."""
    # A plus sign that was not encoded arrives as a space.
    text = str(value).replace(" ", "+")
    if _timestamp(text) is not None:
        with contextlib.suppress(ValueError, OverflowError):
            time = datetime.fromisoformat(text)
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    raise PydanticCustomError(
        "instant", "Must be a date (2026-01-31) or a time with its offset (2026-01-31T09:30Z)"
    )


def _flag(value: Any) -> bool:
    if value not in {"true", "false"}:
        raise PydanticCustomError("flag", "Must be true or false")
    return bool(value == "true")


def _check_search(value: str) -> str:
    number = len(words_of(value))
    if not number:
        raise PydanticCustomError("search", "Must hold a letter or a digit")
    if number > MOST_WORDS:
        raise PydanticCustomError("search", "May hold {most} words at most", {"most": MOST_WORDS})
    return value


Text = Annotated[
    str, Cleaned, Field(min_length=1, max_length=LONGEST_TEXT, json_schema_extra={**TEXT})
]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Flag = Annotated[bool, BeforeValidator(_flag)]


class LeadFilterQuery(Query):
    """Which leads: those to which everything applies that is given."""

    email: Annotated[
        Annotated[
            Text, Field(json_schema_extra={"pattern": EMAIL_LIKE}), AfterValidator(_check_email)
        ]
        | None,
        Field(description="The e-mail address, whatever the case of its letters"),
    ] = None
    external_id: Annotated[UUID | None, Field(description="The `externalId`")] = None
    status: Annotated[LeadStatus | None, Field(description="The status")] = None
    source: Annotated[Text | None, Field(description="The source, such as `manual`")] = None
    country: Annotated[
        Text | None, Field(description="The country, whatever its letters' case and accents")
    ] = None
    created_after: Annotated[Instant | None, Field(description="Created at this time or later")] = (
        None
    )
    created_before: Annotated[Instant | None, Field(description="Created before this time")] = None
    updated_after: Annotated[
        Instant | None, Field(description="Last changed at this time or later")
    ] = None
    updated_before: Annotated[
        Instant | None, Field(description="Last changed before this time")
    ] = None
    has_summary: Annotated[Flag | None, Field(description="With a summary, or without")] = None
    q: Annotated[
        Annotated[Text, AfterValidator(_check_search)] | None,
        Field(
            description="Words that all occur in the names, e-mail address, city or country, "
            "whatever their letters' case and accents: anywhere, or at the beginning of a word "
            "for those of one or two letters"
        ),
    ] = None

    def filters(self) -> LeadFilters:
        """Return the same in the storage's terms."""
        return LeadFilters(
            email_key=None if self.email is None else email_key(self.email),
            external_id=self.external_id,
            status=self.status,
            source=self.source,
            country=self.country,
            created_after=self.created_after,
            created_before=self.created_before,
            updated_after=self.updated_after,
            updated_before=self.updated_before,
            has_summary=self.has_summary,
            words=() if self.q is None else words_of(self.q),
        )


class LeadListQuery(LeadFilterQuery, PageQuery):
    """Which page of which leads, in which order."""

    sort: Annotated[LeadSort, Field(description="The order; a minus sign turns it round")] = (
        LeadSort.CREATED_LAST
    )
    count: Annotated[
        Literal["exact"] | None,
        Field(description="Have all leads of the list counted, into `X-Total-Count`"),
    ] = None

    @property
    def scope(self) -> str:
        """What a cursor of this list belongs to."""
        return f"leads {self.sort} {self.filters()!r}"


class LeadExportQuery(LeadFilterQuery):
    """Which leads, as what."""

    format: Annotated[FileFormat, Field(description="What to write them as")] = FileFormat.NDJSON


def words_of(search: str) -> tuple[str, ...]:
    """Return the words to be found, without accents; what has no letter or digit is left out."""
    plain = _accents.sub("", unicodedata.normalize("NFKD", search))
    return tuple(dict.fromkeys(word for word in plain.split() if _searchable(word)))
