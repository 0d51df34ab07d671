"""Events survive the stream, and what is no event says why."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid5

import pytest

from shared.domain.errors import PermanentError
from shared.events.data import LeadChanged
from shared.events.envelope import Event, new_id
from shared.streams.codec import decode, encode, encode_changes, for_group
from tests.support.builders import (
    lead_created,
    lead_deleted,
    lead_fields,
    lead_updated,
    lead_upserted,
)


def _wire(event: Event) -> dict[bytes, bytes]:
    return {
        str(name).encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in encode(event).items()
    }


_CREATED = lead_created()


@pytest.mark.parametrize(
    "event",
    [
        lead_created(),
        lead_created(
            correlation_id="request 1",
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            tracestate="a=b",
            reply_to="reply:api:1",
            expires=datetime(2026, 1, 1, tzinfo=UTC),
            attempt=4,
            only_group="syncer",
            replay_id="replay-1",
            replay_number=0,
        ),
        replace(lead_created(), partition_key="another"),
        replace(_CREATED, partition_key=_CREATED.subject),
        Event(
            source="syncer",
            subject="lead",
            data=LeadChanged(lead_id=new_id(), lead_version=2, change="created"),
        ),
    ],
)
def test_an_event_comes_back_as_it_went(event: Event) -> None:
    assert decode(_wire(event)) == event


def test_it_is_a_cloud_event() -> None:
    event = lead_created()
    wire = _wire(event)
    assert wire[b"specversion"] == b"1.0"
    assert wire[b"datacontenttype"] == b"application/json"
    assert wire[b"dataschema"] == b"urn:leads:lead-created:1"


def test_events_about_one_lead_have_one_key() -> None:
    external_id, lead_id = new_id(), new_id()
    upserted = lead_upserted(external_id, email="ada@example.com")
    known = lead_created(lead_fields(external_id=external_id)), upserted
    assert {_wire(event)[b"partitionkey"] for event in known} == {str(external_id).encode()}
    unknown = lead_created(lead_fields(external_id=None))
    for event in (unknown, lead_updated(lead_id), lead_deleted(lead_id)):
        assert _wire(event)[b"partitionkey"] == event.subject.encode()
    moved = replace(upserted, partition_key=str(lead_id))
    assert _wire(moved)[b"partitionkey"] == str(lead_id).encode()


def test_an_entry_from_before_there_were_keys_has_the_key_that_follows() -> None:
    event = lead_upserted(new_id(), email="a@example.com")
    wire = _wire(event)
    del wire[b"partitionkey"]
    assert decode(wire).key == event.key


def test_fields_that_a_newer_producer_adds_are_ignored() -> None:
    event = lead_created()
    wire = _wire(event)
    wire[b"data"] = wire[b"data"].replace(b'{"leadId"', b'{"mood":"good","leadId"')
    assert decode(wire | {b"somethingnew": b"1"}) == event


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({b"type": b"lead-teleported"}, "unknown-type"),
        ({b"dataschema": b"urn:leads:lead-created:2"}, "unknown-version"),
        ({b"dataschema": b"nonsense"}, "undecodable"),
        ({b"data": b"{"}, "invalid-data"),
        ({b"data": b'{"leadId": 1}'}, "invalid-data"),
        ({b"id": b"one"}, "undecodable"),
        ({b"time": b"yesterday"}, "undecodable"),
        ({b"attempt": b"first"}, "undecodable"),
        ({b"source": b"\xff"}, "undecodable"),
    ],
)
def test_what_is_no_event_is_refused(change: dict[bytes, bytes], code: str) -> None:
    with pytest.raises(PermanentError) as refusal:
        decode(_wire(lead_created()) | change)
    assert refusal.value.code == code


def test_a_refusal_tells_fields_and_no_values() -> None:
    wire = _wire(lead_created()) | {b"data": b'{"leadId": "secret@example.com"}'}
    with pytest.raises(PermanentError) as refusal:
        decode(wire)
    assert "leadId" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_times_are_utc_in_whole_milliseconds() -> None:
    event = lead_created()
    assert event.time.tzinfo == UTC
    assert event.time == replace(event, time=event.time).time
    assert event.time.microsecond % 1000 == 0


@pytest.mark.parametrize(
    "before",
    [
        {},
        {b"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {b"traceparent": b"not one", b"tracelink": b"of an earlier time"},
    ],
)
def test_an_event_that_is_put_back_is_in_no_trace_but_linked_to_its_last(
    before: dict[bytes, bytes],
) -> None:
    """A dead letter and a replay alike: both are put back by this function."""
    fields = {b"id": b"1", **before}
    entry = for_group(fields, group="syncer")
    assert b"traceparent" not in entry
    assert entry.get(b"tracelink") == before.get(b"traceparent")


@pytest.mark.parametrize(
    "cause",
    [
        lead_created(),
        lead_created(
            correlation_id='a "correlation" id',
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ],
)
def test_a_change_is_encoded_as_its_event_would_be(cause: Event) -> None:
    lead_ids = [new_id() for _ in range(40)]  # ids differ in their variant's other bits
    causes = [replace(cause, id=new_id()) for _ in lead_ids]
    entries = encode_changes(
        [(one, id_, 7, "updated") for one, id_ in zip(causes, lead_ids, strict=True)],
        source="syncer",
    )
    for one, id_, entry in zip(causes, lead_ids, entries, strict=True):
        event = Event(
            id=uuid5(one.id, "lead-changed"),
            source="syncer",
            subject=str(id_),
            correlation_id=one.correlation_id,
            traceparent=one.traceparent,
            data=LeadChanged(lead_id=id_, lead_version=7, change="updated"),
            time=datetime.fromisoformat(str(entry["time"])),
        )
        assert entry == encode(event)
