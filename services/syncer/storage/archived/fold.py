"""What the archived events of a lead make of it, applied one after the other in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self, TypeAlias

import asyncpg
import orjson
from pydantic import ValidationError

from services.syncer.storage.lead_row import Change, NewLead
from shared.domain.errors import PermanentError
from shared.domain.lead import LeadStatus, email_key
from shared.events.catalog import BY_TYPE
from shared.events.data import LeadCreated, LeadUpdated, LeadUpserted
from shared.events.envelope import EventData
from shared.events.lead_fields import AS_STORED
from shared.events.outcome import OutcomeStatus

Row: TypeAlias = Mapping[str, Any]
"""Values of `leads.lead` by column."""

# What a model gets to see of a lead, unless personal data are part of it.
_FACTS = ("first_name", "last_name", "city", "state", "country", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """An archived event and what it did.

    `data` is None when it was erased, `version` when the event made none. `changed` are the
    columns that it set, None for an event from before these were kept.
    """

    outcome: OutcomeStatus
    data: EventData | None
    detail: Mapping[str, Any]
    changed: frozenset[str] | None
    applied_at: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> Self:
        """Return the event in a row; raises `PermanentError` when its data are no event's."""
        try:
            model = BY_TYPE[row["type"]].event
            is_erased = row["data"] == "{}"
            data = None if is_erased else model.model_validate_json(row["data"], context=AS_STORED)
        except (KeyError, ValidationError) as error:
            # The error says more, but that may be personal data.
            raise PermanentError("An archived event is none", code="invalid-data") from error
        return cls(
            outcome=OutcomeStatus(row["outcome"]),
            data=data,
            detail=orjson.loads(row["detail"] or b"{}"),
            changed=None if row["changed"] is None else frozenset(row["changed"]),
            applied_at=row["applied_at"],
        )

    @property
    def version(self) -> int | None:
        """The version of the lead that the event made."""
        first = 1 if self.outcome is OutcomeStatus.CREATED else None
        version: int | None = self.detail.get("version", first)
        return version


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedLead:
    """A lead as its events made it, in the last version that any of them made.

    Without a `row` it was deleted, or the archive does not have its creation. `summarised` are
    the facts that its summary was written from.
    """

    version: int = 0
    row: Row | None = None
    deleted_at: datetime | None = None
    summarised: tuple[Any, ...] | None = None


def fold(events: Iterable[PastEvent]) -> FoldedLead:
    """Apply a lead's archived events, which come in the order in which they were applied."""
    lead = FoldedLead()
    for event in events:
        if event.version is not None:
            lead = replace(_apply(lead, event), version=max(lead.version, event.version))
    return lead


def _apply(lead: FoldedLead, event: PastEvent) -> FoldedLead:
    if event.outcome is OutcomeStatus.CREATED:
        return _create(lead, event)
    if event.outcome is OutcomeStatus.DELETED:
        return replace(lead, row=None, deleted_at=event.applied_at)
    if lead.row is None:
        return lead
    if event.outcome is OutcomeStatus.SUMMARISED:
        return _summarise(lead, lead.row, event)
    return _change(lead, lead.row, event)


def _erased(lead: FoldedLead, event: PastEvent) -> FoldedLead:
    """Return a lead of which an event says nothing any more: data are erased with their lead."""
    return replace(lead, row=None, deleted_at=lead.deleted_at or event.applied_at)


def _create(lead: FoldedLead, event: PastEvent) -> FoldedLead:
    if not isinstance(event.data, LeadCreated | LeadUpserted):
        return _erased(lead, event)
    return replace(
        lead,
        row=NewLead.of(event.data).row(created_at=event.applied_at)
        | {
            "status": LeadStatus.NEW,
            "edited_fields": [],
            "partition_key": None,
            "summary": None,
            "next_action": None,
            "summary_stale": False,
            "updated_at": event.applied_at,
            "version": event.version,
        },
    )


def _change(lead: FoldedLead, row: Row, event: PastEvent) -> FoldedLead:
    if not isinstance(event.data, LeadUpdated | LeadUpserted):
        return _erased(lead, event)
    change = Change.of(event.data)
    if event.changed is None:
        new = change.new_values(row)
    else:
        new = {name: value for name, value in change.values.items() if name in event.changed}
    changed = {**row, **new, "edited_fields": change.edited_fields(row, new)}
    if "email" in new:
        changed["email_key"] = email_key(new["email"])
    if event.changed is not None:
        # The key stays. It is kept where it does not follow any more from externalId and id.
        key = row["partition_key"] or row["external_id"] or row["id"]
        follows = key == (changed["external_id"] or row["id"])
        changed["partition_key"] = None if follows else key
    if row["summary"] is not None:
        changed["summary_stale"] = _is_stale(lead, changed, event)
    changed |= {"version": event.version, "updated_at": event.applied_at}
    return replace(lead, row=changed)


def _is_stale(lead: FoldedLead, row: Row, event: PastEvent) -> bool:
    if event.changed is None:
        return _facts(row) != lead.summarised
    return bool(event.detail.get("summaryStale", False))


def _summarise(lead: FoldedLead, row: Row, event: PastEvent) -> FoldedLead:
    detail = event.detail
    if "summary" not in detail:
        return lead
    summarised = {
        **row,
        "summary": detail["summary"],
        "next_action": detail["nextAction"],
        "summary_stale": detail.get("summaryStale", False),
        "version": event.version,
        "updated_at": detail.get("updatedAt", event.applied_at),
    }
    return replace(lead, row=summarised, summarised=_facts(row))


def _facts(row: Row) -> tuple[Any, ...]:
    has_phone = row["phone"] is not None or row["cell"] is not None
    return (*(row[name] for name in _FACTS), has_phone)
