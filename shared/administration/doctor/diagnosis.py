"""Checking everything the system stands on: what is wrong, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from shared.administration.doctor.postgres_facts import PostgresFacts
from shared.events.catalog import STREAMS, groups_of
from shared.events.envelope import now
from shared.events.partitions import Division, Partition
from shared.storage.dead_letters import LetterCount
from shared.streams.inspection import COUNTABLE, GroupState, StreamState
from shared.streams.ordering.overview import in_use
from shared.streams.redis_facts import RedisFacts

SKEW = timedelta(seconds=1)
MUCH_TO_DO = 10_000
STUCK = timedelta(minutes=5)
NEARLY_FULL = 0.8
# A day, and the time that one may take.
BACKUP_OVERDUE = timedelta(hours=26)
OLDEST_REDIS = (7, 0)
OLDEST_POSTGRES = 14


# What to do about a server that answers, and does not serve.
_SAID = {
    "busy": "A script has blocked it: SCRIPT KILL, or wait for its end.",
    "loading": "It is loading its data: wait.",
    "starting up": "It is starting: wait.",
    "too many": "Its connections are all taken: lower POSTGRES_POOL_SIZE, or raise its limit.",
    "remaining connection slots": "Its connections are all taken: lower POSTGRES_POOL_SIZE, or "
    "raise max_connections.",
    "authenticat": "It refuses the user or the password in {}.",
    "wrongpass": "It refuses the user or the password in {}.",
    "invalid username-password": "It refuses the user or the password in {}.",
    "masterdown": "Its master is away: bring it back, or name the Sentinel group in {}.",
}


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: what was found, and what to do unless that is nothing.

    `kind` is what checks are called together whose own names are many, such as those of nodes.
    """

    check: str
    severity: Severity
    detail: str
    advice: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionFacts:
    """How an ordered stream is divided and shared.

    `published` is what Redis says of the division, `configured` is STREAM_PARTITIONS, and `living`
    are the members that gave a sign of life.
    """

    stream: str
    division: Division | None
    published: Division | None
    configured: int | None
    partitions: Sequence[Partition]
    living: frozenset[UUID]


def unreachable(check: str, error: Exception, *, setting: str) -> list[Finding]:
    """Return the finding of a server that does not answer, or not in time."""
    said = str(error).lower()
    known = (remedy for words, remedy in _SAID.items() if words in said)
    remedy = next(known, "Start it, or correct {}.")
    effect = {
        "redis": "Without it nothing can be created.",
        "replica": "Lists are read from the primary.",
        "auth": "Nobody can log in, and tokens of its shared secret cannot be checked.",
    }.get(check, "Creates are accepted with 202 while it is away.")
    advice = f"{remedy.format(setting)} {effect}"
    return [Finding(check=check, severity=Severity.FAILURE, detail=reason(error), advice=advice)]


def reason(error: Exception) -> str:
    """Return why there is no answer."""
    return "no answer in time" if isinstance(error, TimeoutError) else str(error)


def of_redis(facts: RedisFacts, *, at: str = "") -> list[Finding]:
    """Judge the streams' Redis, or the node of a cluster at an address."""
    findings = [
        _judge(
            "redis version",
            f"{facts.product} {facts.version}",
            good=_version(facts.version) >= OLDEST_REDIS,
            advice="Streams need Redis 7.0 or Valkey 8.",
            bad=Severity.FAILURE,
        ),
        _judge(
            "redis eviction",
            facts.eviction,
            good=facts.eviction == "noeviction",
            advice="CONFIG SET maxmemory-policy noeviction: evicting drops whole streams with "
            "their groups. A cache that evicts belongs on another server (CACHE_REDIS_URL).",
            bad=Severity.FAILURE,
        ),
        _persistence(facts),
        _memory(facts),
        _clock("redis clock", facts.ahead, facts.uncertainty),
    ]
    return [replace(one, check=f"{one.check} {at}".rstrip(), kind=one.check) for one in findings]


def of_postgres(facts: PostgresFacts) -> list[Finding]:
    """Judge PostgreSQL and its schema."""
    durable = facts.fsync and facts.synchronous_commit != "off"
    return [
        _judge(
            "postgres version",
            facts.version,
            good=_version(facts.version)[0] >= OLDEST_POSTGRES,
            advice=f"The system is tested from PostgreSQL {OLDEST_POSTGRES} on.",
        ),
        Finding(
            check="postgres pooler",
            severity=Severity.OK,
            detail="in between: prepared statements are kept only if POSTGRES_STATEMENT_CACHE is on"
            if facts.pooled
            else "none: prepared statements are kept unless POSTGRES_STATEMENT_CACHE is off",
        ),
        _judge(
            "postgres role",
            "standby" if facts.standby else "primary",
            good=not facts.standby,
            advice="Point SUPABASE_CONNECTION_STRING at the primary: a standby takes no writes.",
            bad=Severity.FAILURE,
        ),
        _judge(
            "postgres durability",
            f"fsync {'on' if facts.fsync else 'off'}, "
            f"synchronous_commit {facts.synchronous_commit}",
            good=durable,
            advice="Switch both on: a power cut loses leads that were answered with 201.",
        ),
        _judge(
            "postgres connections",
            f"{facts.connections} of {facts.max_connections}",
            good=facts.connections < facts.max_connections * NEARLY_FULL,
            advice="Lower POSTGRES_POOL_SIZE, or put a pooler in front.",
        ),
        _judge(
            "postgres sessions",
            f"{facts.hidden} of this system's are hidden" if facts.hidden else "none is hidden",
            good=not facts.hidden,
            advice="GRANT pg_read_all_stats to the API's role: who polls by updatedAfter could "
            "miss what sessions of another role are about to commit.",
        ),
        _migrations(facts),
        _clock("postgres clock", facts.ahead, facts.uncertainty),
    ]


def of_streams(states: Sequence[StreamState]) -> list[Finding]:
    """Judge the streams and the groups that the catalog says they have."""
    findings: list[Finding] = []
    for state in states:
        groups = {group.name: group for group in state.groups}
        for name in groups_of(state.name):
            check = f"{state.name} {name}"
            if name in groups:
                findings.append(_group(check, groups[name]))
            else:
                findings.append(
                    Finding(
                        check=check,
                        severity=Severity.WARNING,
                        detail="the group does not exist",
                        advice=f"Start a {name}: it makes its groups, and misses nothing.",
                    )
                )
    return findings


def of_partitions(facts: PartitionFacts) -> list[Finding]:
    """Judge how an ordered stream is divided and shared."""
    if facts.division is None:
        return [
            Finding(
                check=f"{facts.stream} partitions",
                severity=Severity.WARNING,
                detail="none yet",
                advice="Start a syncer: it divides the stream, in STREAM_PARTITIONS.",
            )
        ]
    return [
        _layout(facts, facts.division),
        _owners(facts, facts.division),
        _copy(facts, facts.division),
    ]


def _layout(facts: PartitionFacts, division: Division) -> Finding:
    check = f"{facts.stream} partitions"
    number = division.last.partitions
    if not division.is_open:
        return Finding(
            check=check,
            severity=Severity.WARNING,
            detail=f"being divided into {number}",
            advice="Nothing is published until the syncers have done what came before: "
            f"`ops streams partition --to {number}` shows how far they are.",
        )
    return _judge(
        check,
        f"{number}, and STREAM_PARTITIONS is {facts.configured}"
        if facts.configured
        else f"{number}",
        good=facts.configured in {None, number},
        advice="Services do not start so. Correct the setting, or run "
        f"`ops streams partition --to {facts.configured}`.",
    )


def _owners(facts: PartitionFacts, division: Division) -> Finding:
    check = f"{facts.stream} owners"
    layout = in_use(division)
    rows = [row for row in facts.partitions if layout and row.layout == layout.number]
    unowned = sum(row.owner not in facts.living for row in rows)
    if unowned:
        return Finding(
            check=check,
            severity=Severity.WARNING,
            detail=f"{unowned} of {len(rows)} partitions have no living owner",
            advice="Start a syncer. Where one was killed another follows within STREAM_LEASE.",
        )
    idle = len(facts.living) - len(rows)
    return _judge(
        check,
        f"{len(facts.living)} syncers share {len(rows)} partitions",
        good=idle <= 0 or layout is None,
        advice=f"{idle} of them have nothing to do: run fewer, or change the number of partitions "
        f"with `ops streams partition --to {len(facts.living)}`.",
    )


def _copy(facts: PartitionFacts, division: Division) -> Finding:
    return _judge(
        f"{facts.stream} layout",
        "the same in Redis and PostgreSQL"
        if facts.published == division
        else "Redis does not say what PostgreSQL does",
        good=facts.published == division,
        advice="A syncer mends it within a second: start one. Until then events may be refused.",
    )


def of_dead_letters(counts: Sequence[LetterCount]) -> Finding:
    """Judge the dead letters."""
    number = sum(count.count for count in counts)
    reasons = ", ".join(sorted({count.reason for count in counts}))
    return _judge(
        "dead letters",
        f"{number:,} ({reasons})" if number else "none",
        good=number == 0,
        advice="Look at `ops dead-letters list --summary`; mend the cause, then retry or discard.",
    )


def of_backup(last: datetime | None) -> Finding:
    """Judge when `ops backup` last came to its end."""
    if last is None:
        detail = "none by `ops backup`: see that something else backs PostgreSQL up"
        return Finding(check="backup", severity=Severity.OK, detail=detail)
    age = now() - last
    return _judge(
        "backup",
        f"{last:%Y-%m-%d %H:%M} UTC",
        good=age <= BACKUP_OVERDUE,
        advice="See the log of what makes them, and `ops log`: one without a number has failed.",
    )


def all_streams() -> tuple[str, ...]:
    """Return the streams that have consumer groups."""
    return tuple(stream for stream in STREAMS if any(groups_of(stream)))


def _group(check: str, group: GroupState) -> Finding:
    lag = f"over {COUNTABLE:,}, how many is unknown" if group.lag is None else f"{group.lag:,}"
    if group.retries is None:
        detail = f"{lag} to do; more is known with PostgreSQL"
    else:
        detail = f"{lag} to do, {group.retries:,} to retry, {len(group.consumers)} consumers"
    advice = _group_advice(group)
    severity = Severity.OK if advice is None else Severity.WARNING
    return Finding(check=check, severity=severity, detail=detail, advice=advice)


def _group_advice(group: GroupState) -> str | None:
    # Redis 7.0 knows a consumer only once it has got something: none is no sign in itself.
    if not group.consumers and group.lag != 0 and group.retries is not None:
        return "No consumer: start the service. What waits is kept until it is back."
    if group.oldest_pending is not None and group.oldest_pending > STUCK:
        return (
            "An entry is pending for long: see the consumers' idle times in `ops streams`, and "
            "the service's log for what it waits for."
        )
    if group.lag is None or group.lag > MUCH_TO_DO:
        return "The consumers are behind: add replicas, or find out what slows them down."
    return None


def _persistence(facts: RedisFacts) -> Finding:
    if facts.last_write_failed:
        return Finding(
            check="redis persistence",
            severity=Severity.FAILURE,
            detail="the last write to the append-only file failed",
            advice="Look at the disk: is it full? Until then a crash loses what came since.",
        )
    if not facts.append_only:
        return Finding(
            check="redis persistence",
            severity=Severity.WARNING,
            detail="no append-only file",
            advice="CONFIG SET appendonly yes: a restart loses what was answered with 202.",
        )
    fsync = facts.fsync or "unknown (CONFIG is not allowed)"
    return _judge(
        "redis persistence",
        f"append-only file, fsync {fsync}",
        good=facts.fsync in {"always", "everysec", None},
        advice="CONFIG SET appendfsync everysec, or always: now a power cut loses all that the "
        "system had not written yet.",
    )


def _memory(facts: RedisFacts) -> Finding:
    used = f"{facts.memory / 1e6:,.0f} MB"
    if not facts.memory_limit:
        return Finding(check="redis memory", severity=Severity.OK, detail=f"{used}, no limit")
    return _judge(
        "redis memory",
        f"{used} of {facts.memory_limit / 1e6:,.0f} MB",
        good=facts.memory < facts.memory_limit * NEARLY_FULL,
        advice="Raise maxmemory, or lower STREAM_RETENTION: a full server refuses new events.",
    )


def _migrations(facts: PostgresFacts) -> Finding:
    if facts.missing:
        return Finding(
            check="migrations",
            severity=Severity.FAILURE,
            detail=f"missing: {', '.join(facts.missing)}",
            advice="Run `ops migrate`.",
        )
    return _judge(
        "migrations",
        f"unknown here: {', '.join(facts.unknown)}" if facts.unknown else "all applied",
        good=not facts.unknown,
        advice="A newer version has migrated this database: upgrade what still runs this one.",
    )


def _clock(check: str, ahead: timedelta, uncertainty: timedelta) -> Finding:
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    skew = abs(ahead)
    return _judge(
        check,
        f"{skew.total_seconds() * 1000:.0f} ms {direction} this host "
        f"(+/- {uncertainty.total_seconds() * 1000:.0f} ms)",
        good=skew <= SKEW + uncertainty,
        advice="Synchronise the hosts' clocks (NTP): times of events and deadlines go by them.",
    )


def _judge(
    check: str, detail: str, *, good: bool, advice: str, bad: Severity = Severity.WARNING
) -> Finding:
    if good:
        return Finding(check=check, severity=Severity.OK, detail=detail)
    return Finding(check=check, severity=bad, detail=detail, advice=advice)


def _version(text: str) -> tuple[int, int]:
    parts = [int(part) for part in text.split(maxsplit=1)[0].split(".") if part.isdigit()]
    return (parts[0], parts[1] if len(parts) > 1 else 0) if parts else (0, 0)
