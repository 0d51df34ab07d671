"""Replays bring back what is missing, and change nothing else."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.administration.replays import Replays
from shared.domain.errors import PermanentError
from shared.events import catalog
from shared.events.replay import ReplayOrder, ReplayOrigin, ReplayPage, Selection
from shared.storage.pool import Database
from shared.streams.codec import entry_id
from shared.streams.inspection import Inspector
from shared.streams.replays.jobs import ReplayJobs
from tests.integration.ops.conftest import (
    Apply,
    Ended,
    Ops,
    StartSyncer,
    Table,
    delete_leads,
    rows,
)
from tests.support.eventually import eventually
from tests.support.partitions import all_leads_done, lead_entries, lead_streams

Leads = Callable[[], Awaitable[Table]]


async def test_rows_deleted_behind_the_systems_back_come_back_identical(
    ops: Ops, syncer: StartSyncer, create: Apply, leads: Leads, database: Database
) -> None:
    for origin in ("archive", "stream"):
        async with syncer():
            events = await create(30)
            before = await leads()
            await delete_leads(database, [event.subject for event in events[5:15]])
            ended = await ops("replay", "--from", origin, "--json")
            report = ended.json
            assert await leads() == before
        assert ended.code == 0
        assert report["applied_now"] == 10
        assert report["already_applied"] == len(before) - 10
        assert (report["replayed"], report["dead"], report["unreported"]) == (len(before), 0, 0)


async def test_replaying_twice_changes_nothing(
    ops: Ops, syncer: StartSyncer, create: Apply, leads: Leads, database: Database, redis: Redis
) -> None:
    async with syncer():
        await create(40)
        before = await leads(), await rows(database, "SELECT * FROM leads.event ORDER BY id")
        for origin in ("archive", "stream"):
            report = (await ops("replay", "--from", origin, "--json")).json
            assert (report["applied_now"], report["already_applied"]) == (0, 40)
        assert (
            await leads(),
            await rows(database, "SELECT * FROM leads.event ORDER BY id"),
        ) == before
        assert await redis.xlen(catalog.CHANGES) == 40  # no news
    assert await _replies(redis) == []


async def test_a_dry_run_counts_and_changes_nothing(
    ops: Ops, syncer: StartSyncer, create: Apply, leads: Leads, redis: Redis
) -> None:
    async with syncer():
        await create(12)
        entries, before = await lead_entries(redis), await leads()
        for origin in ("archive", "stream"):
            plan = (await ops("replay", "--from", origin, "--dry-run", "--json")).json
            assert plan["counts"] == {"lead-created": 12}
        assert await lead_entries(redis) == entries
        assert await leads() == before
        assert (await ops("replays", "--json")).json == []


async def test_a_dry_run_tells_what_the_stream_no_longer_holds(
    ops: Ops, syncer: StartSyncer, create: Apply, redis: Redis
) -> None:
    async with syncer():
        for _ in range(10):  # each in a millisecond of its own, or later
            await create(1)
        entries = await lead_entries(redis)
        for stream in await lead_streams(redis):
            await redis.xtrim(stream, minid=entries[7].id, approximate=False)
        plan = (await ops("replay", "--from", "stream", "--dry-run", "--json")).json
        printed = (await ops("replay", "--from", "stream", "--dry-run")).stdout
        assert "At most so many change something" in printed
    assert plan["counts"] == {"lead-created": 3}
    assert plan["missing"] == {"lead-created": 7}
    assert "--from archive has what is older" in printed


async def test_filters_narrow_what_is_replayed(
    syncer: StartSyncer, create: Apply, redis: Redis, database: Database
) -> None:
    async with syncer():
        events = await create(20)
    entries = await lead_entries(redis)
    replays = Replays(redis, database)

    async def counted(origin: ReplayOrigin, **bounds: Any) -> int:
        ends = {name: bounds.pop(name) for name in ("first", "last") if name in bounds}
        order = ReplayOrder(
            origin=origin,
            stream=catalog.LEADS,
            group=catalog.SYNCER,
            selection=Selection(**bounds),
            **ends,
        )
        plan = await replays.plan(await replays.bounded(order))
        return plan.counts.get("lead-created", 0)

    middle = events[10].time
    for origin in ReplayOrigin:
        assert await counted(origin, lead_ids=(events[3].subject, events[4].subject)) == 2
        assert await counted(origin, types=("lead-created",)) == 20
        assert await counted(origin, correlation_id="nobody") == 0
        since = await counted(origin, since=middle)
        assert since == sum(event.time >= middle for event in events)
        assert await counted(origin, until=middle) == 20 - since
    span = {"first": entries[2].id, "last": entries[5].id}
    # Entries of several partitions may have one id.
    within = [entry for entry in entries if _is_between(entry.id, **span)]
    assert await counted(ReplayOrigin.STREAM, **span) == len(within) >= 4


async def test_only_types_of_the_stream_can_be_replayed(
    ops: Ops, syncer: StartSyncer, create: Apply
) -> None:
    async with syncer():
        await create(1)
    refused = await ops("replay", "--from", "stream", "--type", "sync-requested", "--dry-run")
    assert refused.code == 1
    assert "does not travel on stream:leads" in refused.stderr


async def test_the_live_groups_cursor_is_not_moved(
    ops: Ops, syncer: StartSyncer, create: Apply, redis: Redis
) -> None:
    async with syncer():
        await create(10)
    [group] = (await Inspector(redis).look(catalog.LEADS)).groups
    replay = await ops.start("replay", "--from", "stream", "--json")

    async def added() -> bool:
        return (await Inspector(redis).look(catalog.LEADS)).length == 20

    await eventually(added)
    [waiting] = (await Inspector(redis).look(catalog.LEADS)).groups
    assert waiting.last_delivered == group.last_delivered
    assert waiting.undelivered == 10
    await eventually(lambda: replay.has_said("does a syncer run? 10 events wait"))
    report = (await ops.interrupt(replay)).json
    assert not report["finished"]
    assert report["unreported"] == 10


async def test_an_interrupted_replay_goes_on_where_it_stopped(
    ops: Ops, syncer: StartSyncer, create: Apply, redis: Redis, leads: Leads, database: Database
) -> None:
    async with syncer():
        events = await create(60)
        before = await leads()
        await delete_leads(database, [event.subject for event in events])
        replay = await ops.start("replay", "--from", "archive", "--rate", "10", "--json")

        async def some_added() -> str | None:
            jobs = ReplayJobs(redis)
            orders = await jobs.recent()
            if orders and (await jobs.progress(orders[0].id)).added:
                return orders[0].id
            return None

        job = await eventually(some_added)
        assert job is not None
        ended = await ops.interrupt(replay)
        assert ended.code == 130
        stopped = ended.json
        assert (stopped["finished"], stopped["id"]) == (False, job)
        assert 0 < stopped["replayed"] < 60
        jobs = ReplayJobs(redis)
        order = await jobs.find_order(job)
        assert order is not None
        await jobs.save(replace(order, rate=None))  # the rest may go fast
        report = (await ops("replay", "--job", job, "--json")).json
        assert report["finished"]
        assert (report["replayed"], report["applied_now"]) == (60, 60)
        assert await leads() == before


async def test_a_cancelled_replay_stops_wherever_it_runs_and_goes_on_later(
    ops: Ops, syncer: StartSyncer, create: Apply, redis: Redis
) -> None:
    async with syncer():
        await create(5)
    replay = await ops.start("replay", "--from", "stream", "--json")

    async def added() -> str | None:
        jobs = ReplayJobs(redis)
        orders = await jobs.recent()
        is_added = orders and (await jobs.progress(orders[0].id)).added == 5
        return orders[0].id if is_added else None

    job = await eventually(added)
    assert job is not None
    shown = await ops("replays", "--cancel", job, "--json")
    assert [one["progress"]["state"] for one in shown.json] == ["cancelled"]
    ended = Ended(*await replay.end())
    assert (ended.code, ended.json["cancelled"], ended.json["unreported"]) == (1, True, 5)
    async with syncer():
        report = (await ops("replay", "--job", job, "--json")).json
        assert (report["finished"], report["already_applied"]) == (True, 5)
    for over in (job, "nothing"):
        refused = await ops("replays", "--cancel", over)
        assert (refused.code, "that is not over" in refused.stderr) == (1, True)


async def test_replayed_entries_leave_the_stream_when_every_group_is_done(
    ops: Ops, syncer: StartSyncer, create: Apply, redis: Redis
) -> None:
    async with syncer():
        await create(25)
        await ops("replay", "--from", "archive", "--json")
        assert len(await lead_entries(redis)) == 25
        assert await all_leads_done(redis)


async def test_replays_are_listed_with_their_results(
    ops: Ops, syncer: StartSyncer, create: Apply
) -> None:
    async with syncer():
        await create(2)
        await ops("replay", "--from", "archive")
    [replay] = (await ops("replays", "--json")).json
    assert replay["progress"]["state"] == "finished"
    assert replay["progress"]["results"] == {"already-applied": 2}


async def test_only_a_group_that_exists_can_be_replayed_to(ops: Ops, redis: Redis) -> None:
    ended = await ops("replay", "--from", "archive", "--group", "nobody")
    assert ended.code == 1
    assert "has no group 'nobody'" in ended.stderr
    assert not await lead_entries(redis)


async def test_two_processes_cannot_run_one_replay(redis: Redis) -> None:
    jobs = ReplayJobs(redis)
    order = ReplayOrder(origin=ReplayOrigin.ARCHIVE, stream=catalog.LEADS, group=catalog.SYNCER)
    await jobs.save(order)
    page = ReplayPage(events=[{b"id": b"1"}], position="1", examined=1)
    await jobs.add_page(order, page, after=None)
    with pytest.raises(PermanentError, match="being run by another process"):
        await jobs.add_page(order, replace(page, position="2"), after=None)
    assert len(await lead_entries(redis)) == 1
    progress = await jobs.progress(order.id)
    assert (progress.position, progress.added) == ("1", 1)


async def test_poison_that_is_replayed_is_counted_as_dead(
    ops: Ops, syncer: StartSyncer, create: Apply, database: Database
) -> None:
    async with syncer():
        [poison, _] = await create(2)
        async with database.connection() as connection:
            await connection.execute(
                "UPDATE leads.event SET data = data || $2::jsonb WHERE id = $1",
                poison.id,
                '{"lead": {"email": "nobody"}}',
            )
        await delete_leads(database, [poison.subject])
        ended = await ops("replay", "--from", "archive", "--json")
        letters = (await ops("dead-letters", "list", "--json")).json
    assert ended.code == 1
    assert (ended.json["replayed"], ended.json["already_applied"], ended.json["dead"]) == (2, 1, 1)
    assert [letter["letter"]["reason"] for letter in letters] == ["invalid-data"]


def _is_between(id_: str, *, first: str, last: str) -> bool:
    return entry_id(first) <= entry_id(id_) <= entry_id(last)


async def _replies(redis: Redis) -> list[Any]:
    return list(await redis.keys("reply:*"))
