"""What archived events make of a lead."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.syncer.storage.archived.fold import PastEvent, fold
from shared.events.data import LeadCreated, LeadDeleted, LeadUpdated, LeadUpserted
from shared.events.envelope import EventData
from shared.events.lead_fields import GivenLead, LeadChanges, LeadFields
from shared.events.outcome import OutcomeStatus

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
LEAD, KEY, OTHER_KEY = UUID(int=1), UUID(int=2), UUID(int=3)
NAMES: dict[str, Any] = {"first_name": "Ada", "last_name": "King", "email": "Ada@Example.com"}


def created(**fields: Any) -> PastEvent:
    data = LeadCreated(lead_id=LEAD, source="manual", lead=LeadFields(**(NAMES | fields)))
    return past(OutcomeStatus.CREATED, data)


def updated(version: int, changed: Sequence[str] | None = None, **fields: Any) -> PastEvent:
    data = LeadUpdated(lead_id=LEAD, changes=LeadChanges(**fields))
    return past(OutcomeStatus.UPDATED, data, version, changed=changed or tuple(fields))


def from_before(version: int, by: str = "manual", **fields: Any) -> PastEvent:
    """Return a change from before the columns that it set were kept."""
    lead = GivenLead(**(NAMES | fields))
    data = LeadUpserted(lead_id=LEAD, source=by, external_id=KEY, lead=lead)
    return past(OutcomeStatus.UPDATED, data, version, changed=None)


def summarised(version: int, summary: str = "Hello", **detail: Any) -> PastEvent:
    written = {"summary": summary, "nextAction": "Call", "updatedAt": "2026-02-01T00:00:00+00:00"}
    return past(OutcomeStatus.SUMMARISED, None, version, **(written | detail))


def deleted(version: int) -> PastEvent:
    return past(OutcomeStatus.DELETED, LeadDeleted(lead_id=LEAD), version)


def past(
    outcome: OutcomeStatus,
    data: EventData | None,
    version: int | None = None,
    *,
    changed: Sequence[str] | None = (),
    **detail: Any,
) -> PastEvent:
    return PastEvent(
        outcome=outcome,
        data=data,
        detail=detail | ({} if version is None else {"version": version}),
        changed=None if changed is None else frozenset(changed),
        applied_at=BEGINNING + timedelta(seconds=version or 1),
    )


def row(*events: PastEvent) -> dict[str, Any]:
    lead = fold(events).row
    assert lead is not None
    return dict(lead)


def test_a_creation_makes_the_whole_row() -> None:
    made = row(created(external_id=KEY, city="Rome"))
    assert made | {"cell": None} == made
    assert (made["id"], made["external_id"], made["city"]) == (LEAD, KEY, "Rome")
    assert (made["email"], made["email_key"]) == ("Ada@example.com", "ada@example.com")
    assert made["created_at"] == made["updated_at"] == BEGINNING + timedelta(seconds=1)
    assert (made["version"], made["status"], made["edited_fields"]) == (1, "new", [])


def test_changes_are_made_in_their_order() -> None:
    made = row(created(), updated(2, city="Rome"), updated(3, city="Oslo", email="b@Example.com"))
    assert (made["city"], made["email_key"], made["version"]) == ("Oslo", "b@example.com", 3)
    assert made["edited_fields"] == ["city", "email"]
    assert made["updated_at"] == BEGINNING + timedelta(seconds=3)
    assert made["created_at"] == BEGINNING + timedelta(seconds=1)


def test_only_the_columns_that_an_event_set_are_set() -> None:
    made = row(created(city="Rome"), updated(2, ["state"], city="Oslo", state="Kent"))
    assert (made["city"], made["state"], made["edited_fields"]) == ("Rome", "Kent", ["state"])


def test_of_an_event_from_before_columns_were_kept_a_persons_edits_stay() -> None:
    edits = created(external_id=KEY), from_before(2, city="Rome")
    made = row(*edits, from_before(3, by="import", city="Oslo", state="Kent"))
    assert (made["city"], made["state"], made["edited_fields"]) == ("Rome", "Kent", ["city"])
    assert row(*edits, from_before(3, city="Oslo"))["city"] == "Oslo"


def test_the_partition_key_stays_while_the_external_id_changes() -> None:
    history = [created(external_id=KEY), updated(2, external_id=OTHER_KEY)]
    assert row(*history)["partition_key"] == KEY
    assert row(*history, updated(3, external_id=None))["partition_key"] == KEY
    assert row(*history, updated(3, external_id=KEY))["partition_key"] is None
    assert row(created(), updated(2, external_id=KEY))["partition_key"] == LEAD


def test_summaries_are_versions_too() -> None:
    made = row(created(), summarised(2), updated(3, city="Rome"), summarised(4, "Bye"))
    assert (made["summary"], made["next_action"], made["version"]) == ("Bye", "Call", 4)
    assert made["updated_at"] == "2026-02-01T00:00:00+00:00"


def test_a_summary_is_as_stale_as_it_was() -> None:
    stale = updated(3, city="Rome")
    stale = past(stale.outcome, stale.data, 3, changed=["city"], summaryStale=True)
    assert row(created(), summarised(2), stale)["summary_stale"] is True
    assert row(created(), summarised(2), stale, updated(4, city=None))["summary_stale"] is False
    assert row(created(), summarised(2, summaryStale=True))["summary_stale"] is True
    assert row(created(), updated(2, city="Rome"))["summary_stale"] is False


@pytest.mark.parametrize(
    ("fields", "is_stale"),
    [({"city": "Rome"}, True), ({"phone": "1234567"}, True), ({"picture": "http://a.de"}, False)],
)
def test_a_summary_from_before_this_was_kept_is_stale_when_its_facts_have_changed(
    fields: dict[str, Any], *, is_stale: bool
) -> None:
    history = [created(external_id=KEY), summarised(2), from_before(3, **fields)]
    assert row(*history)["summary_stale"] is is_stale


def test_a_deleted_lead_has_no_row() -> None:
    lead = fold([created(), updated(2, city="Rome"), deleted(3)])
    assert (lead.row, lead.version) == (None, 3)
    assert lead.deleted_at == BEGINNING + timedelta(seconds=3)


@pytest.mark.parametrize("place", [0, 1])
def test_a_lead_of_which_data_were_erased_counts_as_deleted(place: int) -> None:
    history = [created(), updated(2, city="Rome"), summarised(3)]
    erased = history[place]
    history[place] = past(erased.outcome, None, erased.version)
    lead = fold(history)
    assert (lead.row, lead.deleted_at is None) == (None, False)


def test_without_its_creation_only_the_versions_of_a_lead_are_known() -> None:
    lead = fold([updated(2, city="Rome"), summarised(4)])
    assert (lead.row, lead.deleted_at, lead.version) == (None, None, 4)


def test_no_events_are_no_lead() -> None:
    assert fold([]) == fold([past(OutcomeStatus.UPDATED, None)])
    assert fold([]).version == 0


def test_a_change_that_changed_nothing_folds_to_nothing() -> None:
    changed = updated(2, city="Oslo")
    idle = past(changed.outcome, changed.data)
    assert row(created(city="Rome"), idle) == row(created(city="Rome"))
