"""Applied events can be found again."""

from uuid import uuid4

from shared.events.data import LeadCreated
from shared.events.envelope import now
from shared.storage.pool import Database
from tests.integration.ops.conftest import Apply, Ops, StartSyncer, delete_leads


async def test_events_are_browsed_by_lead_type_time_and_correlation(
    ops: Ops, syncer: StartSyncer, create: Apply
) -> None:
    async with syncer():
        events = await create(5)
    wanted = events[2]
    [found] = (await ops("events", "--lead", wanted.subject, "--json")).json
    assert (found["id"], found["outcome"]) == (str(wanted.id), "created")
    assert found["data"]["leadId"] == wanted.subject
    newest = (await ops("events", "--type", "lead-created", "--limit", "2", "--json")).json
    assert len(newest) == 2
    assert newest[0]["recorded_at"] >= newest[1]["recorded_at"]
    assert (await ops("events", "--since", now().isoformat(), "--json")).json == []
    assert (await ops("events", "--since", "2d", "--until", "1d", "--json")).json == []
    assert (await ops("events", "--correlation", "nothing", "--json")).json == []
    assert str(wanted.id) in (await ops("events")).stdout


async def test_times_are_refused_with_a_reason(ops: Ops) -> None:
    ended = await ops("events", "--since", "yesterday")
    assert ended.code == 2
    assert "neither an ISO 8601 time nor a span" in ended.stderr


async def test_a_lead_is_known_by_either_id_in_any_case_and_when_it_is_gone(
    ops: Ops, syncer: StartSyncer, create: Apply, database: Database
) -> None:
    async with syncer():
        [event, _] = await create(2)
    assert isinstance(event.data, LeadCreated)
    external_id = str(event.data.lead.external_id)
    for key in (event.subject.upper(), external_id, external_id.upper()):
        [found] = (await ops("events", "--lead", key, "--json")).json
        assert found["id"] == str(event.id)
    await delete_leads(database, [event.subject])
    [found] = (await ops("events", "--lead", external_id.upper(), "--json")).json
    assert found["subject"] == event.subject
    plan = await ops("replay", "--from", "archive", "--lead", external_id, "--dry-run", "--json")
    assert plan.json["counts"] == {"lead-created": 1}
    assert (await ops("events", "--lead", str(uuid4()), "--json")).json == []
