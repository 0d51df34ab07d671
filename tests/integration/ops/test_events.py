"""Applied events can be found again."""

from shared.events.envelope import now
from tests.integration.ops.conftest import Apply, Ops, StartSyncer


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
    assert (await ops("events", "--since", "1h", "--until", "1d", "--json")).json == []
    assert (await ops("events", "--correlation", "nothing", "--json")).json == []
    assert str(wanted.id) in (await ops("events")).stdout


async def test_times_are_refused_with_a_reason(ops: Ops) -> None:
    ended = await ops("events", "--since", "yesterday")
    assert ended.code == 2
    assert "neither an ISO 8601 time nor a span" in ended.stderr
