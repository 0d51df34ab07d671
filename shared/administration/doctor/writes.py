"""Whether writes get through: what refuses them (503), lets them wait (202), or slows them down."""

from collections.abc import Sequence
from datetime import timedelta

from redis.asyncio import Redis

from shared.administration.doctor.diagnosis import NEARLY_FULL, Finding, Severity
from shared.administration.doctor.write_facts import (
    Blocker,
    HeldFacts,
    LongTransaction,
    blockers,
    held_facts,
    invalid_indexes,
    long_transactions,
    write_and_undo,
)
from shared.administration.wording import size, span
from shared.domain.errors import TransientError, UnavailableError
from shared.events.catalog import STREAMS, groups_of
from shared.storage.pool import Database
from shared.streams.consuming.group import first_unfinished, groups_info, last_entry
from shared.streams.inspection import StreamState
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import check_writable
from shared.streams.troubles import Trouble, Troubles

# Ordinary transactions are over long before.
LONG_TRANSACTION = timedelta(seconds=2)
# A transaction that leaves its locks for longer is taken for one that was forgotten.
FORGOTTEN = timedelta(seconds=30)
# No transaction of the system's takes a minute.
LEFT_OPEN = timedelta(minutes=1)

# By what a server says when it refuses to write. Each is told in the words of several versions.
_REDIS_ADVICE = {
    "read only": "This server is a replica. Name the master in REDIS_URL, or the Sentinel group "
    "(redis+sentinel://...), which finds it.",
    "maxmemory": "Redis is full: raise maxmemory, bring back the consumers whose lag grew, or "
    "lower STREAM_RETENTION. A cache on the same server belongs on another one (CACHE_REDIS_URL).",
    "misconf": "Redis cannot write to its disk: make room there, then see INFO persistence.",
    "good replicas": "Replicas are missing: bring them back, or lower min-replicas-to-write.",
    "permission": "The user's ACL forbids it: allow ~* and +@all but the dangerous commands.",
}
_POSTGRES_ADVICE = {
    "read-only": "The server, database or role is read-only. Platforms switch to it when the disk "
    "is full: make room, then switch it off again.",
    "no space left": "PostgreSQL's disk is full: make room. What waits is then applied by itself.",
    "permission denied": "GRANT the role INSERT on the tables of the schema `leads`.",
    "lock": "A session has locked the table: see `postgres locks`.",
}


async def of_redis_writes(redis: Redis) -> list[Finding]:
    """Find out whether Redis takes events."""
    try:
        await check_writable(redis)
    except UnavailableError as error:
        return [_refusal("redis writes", error, _REDIS_ADVICE, answer="503")]
    return [Finding(check="redis writes", severity=Severity.OK, detail="are taken")]


def of_room(states: Sequence[StreamState], *, max_bytes: int) -> list[Finding]:
    """Judge how full the streams are: a full one takes no events."""
    return [_room(state, max_bytes) for state in states]


def _room(state: StreamState, max_bytes: int) -> Finding:
    check = f"{state.name} room"
    detail = f"{size(state.memory)} of {size(max_bytes)} (STREAM_MAX_BYTES)"
    remedy = (
        "Bring back the consumers whose lag grew, remove groups that nobody reads for, or "
        "raise STREAM_MAX_BYTES and restart the APIs."
    )
    if state.memory > max_bytes:
        return Finding(
            check=check,
            severity=Severity.FAILURE,
            detail=f"full: {detail}",
            advice=f"{remedy} Until then new events are refused (503).",
        )
    if state.memory > max_bytes * NEARLY_FULL:
        advice = f"{remedy} A full stream takes no events (503)."
        return Finding(check=check, severity=Severity.WARNING, detail=detail, advice=advice)
    return Finding(check=check, severity=Severity.OK, detail=detail)


async def of_strangers(redis: Redis) -> list[Finding]:
    """Find groups that no service reads for, and that keep entries from being dropped."""
    divisions = Divisions(redis)
    findings: list[Finding] = []
    for stream in STREAMS:
        published = await divisions.published(stream)
        for name in [stream] if published is None else published.names:
            findings += await _strangers_of(redis, stream, name)
    return findings


async def _strangers_of(redis: Redis, stream: str, name: str) -> list[Finding]:
    newest = await last_entry(redis, name)
    findings: list[Finding] = []
    for info in await groups_info(redis, name):
        group = info["name"].decode()
        if group in groups_of(stream) or newest is None:
            continue
        if await first_unfinished(redis, name, info) <= newest:
            findings.append(
                Finding(
                    check=f"{name} {group}",
                    severity=Severity.WARNING,
                    detail=f"the group is behind, and no service of this system reads for it: "
                    f"{int(info['pending']):,} pending, delivered up to "
                    f"{info['last-delivered-id'].decode()}",
                    advice="Nothing that it has not finished is trimmed, until the stream is full "
                    f"(503). Start its consumer, or `XGROUP DESTROY {name} {group}`.",
                    kind="orphaned groups",
                )
            )
    return findings


async def of_troubles(redis: Redis) -> list[Finding]:
    """Tell what processes say that they wait for."""
    return [_trouble(one) for one in await Troubles(redis).told()]


def _trouble(trouble: Trouble) -> Finding:
    advice = "Mend that. What is to be done is kept, and done then."
    if trouble.waits:
        advice += " Until then it does nothing: creates are answered 202, summaries come late."
    return Finding(
        check=trouble.consumer,
        severity=Severity.FAILURE if trouble.waits else Severity.WARNING,
        detail=f"{trouble.stream}: {trouble.reason}",
        advice=advice,
        kind="troubles",
    )


async def of_locks(database: Database) -> list[Finding]:
    """Find out who keeps writes of leads waiting."""
    found = await blockers(database, older=LONG_TRANSACTION)
    return [_blocker(one) for one in found] or [
        Finding(check="postgres locks", severity=Severity.OK, detail="none")
    ]


async def of_transactions(database: Database, *, older: timedelta = LEFT_OPEN) -> list[Finding]:
    """Find sessions that keep what they have written, or seen, open for long."""
    found = await long_transactions(database, older=older)
    return [_left_open(one) for one in found] or [
        Finding(check="postgres transactions", severity=Severity.OK, detail="none is long")
    ]


def _left_open(session: LongTransaction) -> Finding:
    held_up = (
        "who polls by updatedAfter sees nothing newer"
        if session.has_written
        else "rows that were changed since cannot be cleaned up"
    )
    return Finding(
        check="postgres transactions",
        severity=Severity.WARNING,
        detail=f"session {session.pid} ({session.application or 'unnamed'}, {session.state}) has "
        f"been in one for {span(session.age)}",
        advice=f"Until it ends {held_up}. End it, or the session: "
        f"SELECT pg_terminate_backend({session.pid}).",
    )


async def of_indexes(database: Database) -> list[Finding]:
    """Find indexes that were begun and not finished: they cost writes and help no read."""
    return [
        Finding(
            check="postgres indexes",
            severity=Severity.WARNING,
            detail=f"{name} is invalid: making it was cut short",
            advice="Run `ops migrate`, which makes it anew. One of your own: "
            f"REINDEX INDEX CONCURRENTLY {name}.",
        )
        for name in await invalid_indexes(database)
    ] or [Finding(check="postgres indexes", severity=Severity.OK, detail="all are valid")]


async def of_postgres_writes(database: Database) -> list[Finding]:
    """Find out whether PostgreSQL takes writes."""
    try:
        await write_and_undo(database)
    except TransientError as error:
        return [_refusal("postgres writes", error, _POSTGRES_ADVICE, answer="202 and wait")]
    return [Finding(check="postgres writes", severity=Severity.OK, detail="are taken")]


def _blocker(blocker: Blocker) -> Finding:
    is_forgotten = blocker.age > FORGOTTEN or blocker.waiting
    return Finding(
        check="postgres locks",
        severity=Severity.FAILURE if is_forgotten else Severity.WARNING,
        detail=f"session {blocker.pid} ({blocker.application or 'unnamed'}, {blocker.state}) has "
        f"held locks for {span(blocker.age)}; {blocker.waiting} wait for it",
        advice="Creates are answered 202 and wait. End its transaction, or the session: "
        f"SELECT pg_terminate_backend({blocker.pid}).",
    )


async def of_held(database: Database) -> list[Finding]:
    """Find what fails again and again, and keeps later events of the same leads waiting."""
    return [_held(one) for one in await held_facts(database)] or [
        Finding(check="held events", severity=Severity.OK, detail="none")
    ]


def _held(facts: HeldFacts) -> Finding:
    return Finding(
        check="held events",
        severity=Severity.WARNING,
        detail=f"{facts.stream}: {facts.entries:,} of {facts.keys:,} keys, up to attempt "
        f"{facts.attempt}; such as {', '.join(facts.examples)}",
        advice="They fail for now, and changes of the same leads wait behind them (202). The "
        "syncers' log says why (event.held). They end by themselves, or as dead letters.",
    )


def _refusal(check: str, error: Exception, known: dict[str, str], *, answer: str) -> Finding:
    """Say why writes are refused, and what to do: that is known by the words of the error."""
    said = str(error).lower()
    unknown = "Find out why it refuses to write."
    advice = next((advice for words, advice in known.items() if words in said), unknown)
    return Finding(
        check=check,
        severity=Severity.FAILURE,
        detail=str(error),
        advice=f"{advice} Until then creates are answered {answer}.",
    )
