"""Each trouble is found, and comes with what to do about it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.administration.doctor import diagnosis
from shared.administration.doctor.diagnosis import Finding, PartitionFacts, Severity
from shared.administration.doctor.postgres_facts import PostgresFacts
from shared.administration.doctor.replica_facts import ReplicaFacts, of_replica
from shared.domain.errors import UnavailableError
from shared.events.envelope import now
from shared.events.partitions import Division, Layout, Partition
from shared.streams.inspection import ConsumerState, GroupState, StreamState
from shared.streams.redis_facts import RedisFacts

REDIS = RedisFacts(
    product="Redis",
    version="7.0.15",
    eviction="noeviction",
    append_only=True,
    fsync="everysec",
    last_write_failed=False,
    memory=10_000_000,
    memory_limit=100_000_000,
    ahead=timedelta(milliseconds=3),
    uncertainty=timedelta(milliseconds=1),
)
POSTGRES = PostgresFacts(
    pooled=False,
    version="16.4 (Debian 16.4-1)",
    standby=False,
    synchronous_commit="on",
    fsync=True,
    connections=20,
    max_connections=100,
    hidden=0,
    ahead=timedelta(milliseconds=-3),
    uncertainty=timedelta(milliseconds=1),
    missing=(),
    unknown=(),
)
GROUP = GroupState(
    name="syncer",
    last_delivered="1-1",
    undelivered=0,
    pending=0,
    oldest_undelivered=None,
    oldest_pending=None,
    retries=0,
    consumers=(ConsumerState(name="syncer:a:1", idle=timedelta(0), pending=0),),
)

ONE, OTHER = uuid4(), uuid4()
DIVISION = Division([Layout("stream:leads", 1, 2)], is_open=True)
PARTITIONS = PartitionFacts(
    stream="stream:leads",
    division=DIVISION,
    published=DIVISION,
    configured=None,
    partitions=[Partition(1, 0, ONE, 1, "0-0"), Partition(1, 1, OTHER, 1, "0-0")],
    living=frozenset({ONE, OTHER}),
)
NEXT = Division([*DIVISION.layouts, Layout("stream:leads", 2, 4)], is_open=False)
FIRST = Division(DIVISION.layouts, is_open=False)


def bad(findings: list[Finding]) -> list[tuple[str, Severity]]:
    assert all(one.advice for one in findings if one.severity is not Severity.OK)
    return [(one.check, one.severity) for one in findings if one.severity is not Severity.OK]


def test_good_servers_give_no_advice() -> None:
    assert bad(diagnosis.of_redis(REDIS)) == []
    assert bad(diagnosis.of_redis(replace(REDIS, fsync=None, memory_limit=0))) == []
    assert bad(diagnosis.of_postgres(POSTGRES)) == []


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("Error 111 connecting to localhost:6379. Connection refused.", "Start it, or correct X."),
        ("BUSY Redis is busy running a script", "SCRIPT KILL"),
        ("Redis is loading the dataset in memory", "wait"),
        ("sorry, too many clients already", "POSTGRES_POOL_SIZE"),
        ('password authentication failed for user "leads"', "the password in X"),
        ("the database system is starting up", "wait"),
    ],
)
def test_a_server_that_does_not_serve(error: str, advice: str) -> None:
    for check, effect in (("redis", "nothing can be created"), ("postgres", "202")):
        [finding] = diagnosis.unreachable(check, UnavailableError(error), setting="X")
        assert (finding.severity, finding.detail) == (Severity.FAILURE, error)
        assert advice in str(finding.advice)
        assert effect in str(finding.advice)


@pytest.mark.parametrize(
    ("change", "check", "severity"),
    [
        ({"version": "6.2.14"}, "redis version", Severity.FAILURE),
        ({"eviction": "allkeys-lru"}, "redis eviction", Severity.FAILURE),
        ({"append_only": False}, "redis persistence", Severity.WARNING),
        ({"fsync": "no"}, "redis persistence", Severity.WARNING),
        ({"last_write_failed": True}, "redis persistence", Severity.FAILURE),
        ({"memory": 90_000_000}, "redis memory", Severity.WARNING),
        ({"ahead": timedelta(seconds=-5)}, "redis clock", Severity.WARNING),
    ],
)
def test_troubles_of_redis(change: dict[str, Any], check: str, severity: Severity) -> None:
    assert bad(diagnosis.of_redis(replace(REDIS, **change))) == [(check, severity)]


@pytest.mark.parametrize(
    ("change", "check", "severity"),
    [
        ({"version": "12.1"}, "postgres version", Severity.WARNING),
        ({"standby": True}, "postgres role", Severity.FAILURE),
        ({"synchronous_commit": "off"}, "postgres durability", Severity.WARNING),
        ({"connections": 99}, "postgres connections", Severity.WARNING),
        ({"hidden": 2}, "postgres sessions", Severity.WARNING),
        ({"missing": ("0001.create-leads",)}, "migrations", Severity.FAILURE),
        ({"unknown": ("0099.later",)}, "migrations", Severity.WARNING),
        ({"ahead": timedelta(seconds=5)}, "postgres clock", Severity.WARNING),
    ],
)
def test_troubles_of_postgres(change: dict[str, Any], check: str, severity: Severity) -> None:
    assert bad(diagnosis.of_postgres(replace(POSTGRES, **change))) == [(check, severity)]


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"consumers": (), "undelivered": 1}, "No consumer"),
        ({"oldest_pending": timedelta(hours=1), "pending": 1}, "pending for long"),
        ({"undelivered": 50_000}, "behind"),
        ({"undelivered": None}, "behind"),
    ],
)
def test_troubles_of_a_group(change: dict[str, Any], advice: str) -> None:
    [finding] = diagnosis.of_streams([_leads(replace(GROUP, **change))])
    assert finding.severity is Severity.WARNING
    assert advice in str(finding.advice)


def test_a_group_that_is_missing_is_found() -> None:
    assert bad(diagnosis.of_streams([_leads()])) == [("stream:leads syncer", Severity.WARNING)]
    assert bad(diagnosis.of_streams([_leads(GROUP)])) == []
    assert bad(diagnosis.of_streams([_leads(replace(GROUP, consumers=()))])) == []


def test_consumers_that_cannot_be_known_are_not_missed() -> None:
    unknown = replace(GROUP, consumers=(), retries=None, undelivered=5)
    assert bad(diagnosis.of_streams([_leads(unknown)])) == []


@pytest.mark.parametrize(
    ("age", "severity"),
    [
        (None, Severity.OK),
        (timedelta(hours=25), Severity.OK),
        (timedelta(hours=27), Severity.WARNING),
        (timedelta(days=400), Severity.WARNING),
    ],
)
def test_a_backup_is_made_every_day(age: timedelta | None, severity: Severity) -> None:
    finding = diagnosis.of_backup(None if age is None else now() - age)
    assert (finding.severity, finding.advice is None) == (severity, severity is Severity.OK)


@pytest.mark.parametrize("configured", [None, 2])
def test_partitions_with_living_owners_give_no_advice(configured: int | None) -> None:
    assert bad(diagnosis.of_partitions(replace(PARTITIONS, configured=configured))) == []


@pytest.mark.parametrize(
    ("change", "check", "advice"),
    [
        ({"division": None}, "partitions", "Start a syncer"),
        ({"configured": 3}, "partitions", "`ops streams partition --to 3`"),
        (
            {"division": NEXT, "published": NEXT},
            "partitions",
            "`ops streams partition --to 4` shows",
        ),
        ({"division": FIRST, "published": FIRST}, "partitions", "Nothing is published until"),
        ({"living": frozenset({ONE})}, "owners", "Start a syncer"),
        ({"partitions": [Partition(1, 0, None, 0, "0-0")]}, "owners", "Start a syncer"),
        (
            {"living": frozenset({ONE, OTHER, uuid4(), uuid4()})},
            "owners",
            "`ops streams partition --to 4`",
        ),
        ({"published": None}, "layout", "Start"),
        ({"published": NEXT}, "layout", "start one"),
    ],
)
def test_troubles_of_partitions(change: dict[str, Any], check: str, advice: str) -> None:
    findings = diagnosis.of_partitions(replace(PARTITIONS, **change))
    assert bad(findings) == [(f"stream:leads {check}", Severity.WARNING)]
    [finding] = [one for one in findings if one.advice]
    assert advice.lower() in str(finding.advice).lower()


def test_partitions_of_a_layout_that_is_done_need_no_owner() -> None:
    opened = Division(NEXT.layouts, is_open=True)
    rows = [
        Partition(1, 0, None, 4, "9-9"),
        Partition(1, 1, None, 4, "9-9"),
        *(Partition(2, number, ONE, 1, "0-0") for number in range(4)),
    ]
    facts = replace(PARTITIONS, division=opened, published=opened, partitions=rows)
    assert bad(diagnosis.of_partitions(facts)) == []


def _leads(*groups: GroupState) -> StreamState:
    return StreamState(
        name="stream:leads",
        exists=True,
        length=1,
        memory=1,
        first="1-1",
        last="1-1",
        added=1,
        per_second=None,
        groups=groups,
    )


REPLICA = ReplicaFacts(
    is_replica=True, is_of_primary=True, behind=2_000_000, age=timedelta(seconds=1)
)


@pytest.mark.parametrize(
    ("facts", "severity", "advice"),
    [
        (REPLICA, Severity.OK, None),
        (replace(REPLICA, behind=0, age=timedelta(hours=1)), Severity.OK, None),  # nothing came
        (replace(REPLICA, age=timedelta(seconds=11)), Severity.WARNING, "pg_stat_replication"),
        (replace(REPLICA, is_replica=False), Severity.WARNING, "All reads go to the primary"),
        (replace(REPLICA, is_of_primary=False), Severity.FAILURE, "may show other leads"),
    ],
)
def test_a_replica_is_of_the_primary_and_not_late(
    facts: ReplicaFacts, severity: Severity, advice: str | None
) -> None:
    finding = of_replica(facts)
    assert finding.severity is severity
    assert (finding.advice is None) if advice is None else (advice in str(finding.advice))
