"""Whether POSTGRES_READ_URL leads to a replica of the primary, and how far behind it is."""

from dataclasses import dataclass
from datetime import timedelta

from shared.administration.doctor.diagnosis import Finding, Severity, unreachable
from shared.domain.errors import TransientError
from shared.settings import PostgresSettings, ReplicaSettings
from shared.storage.pool import Database, open_database

CHECK = "replica"
# Its pool's name in metrics: no service's own.
POOL = "doctor"
LATE = timedelta(seconds=10)

_SYSTEM = "SELECT system_identifier FROM pg_control_system()"
_WRITTEN = """
    SELECT CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0')::int8 END
"""
_TAKEN_OVER = """
    SELECT pg_is_in_recovery() AS is_replica,
           (pg_last_wal_replay_lsn() - '0/0')::int8 AS place,
           clock_timestamp() - pg_last_xact_replay_timestamp() AS age
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaFacts:
    """What the replica is, in comparison.

    `behind` is in bytes of the log (WAL); `age` is how long ago the last transaction was committed
    that it has taken over.
    """

    is_replica: bool
    is_of_primary: bool
    behind: int
    age: timedelta


async def examine_replica(
    primary: Database, postgres: PostgresSettings, settings: ReplicaSettings
) -> list[Finding]:
    """Check the replica, if there is to be one; all but its address is as the primary's."""
    url = settings.postgres_read_url
    if url is None:
        return []
    try:
        async with open_database(
            postgres.model_copy(update={"supabase_connection_string": url}),
            read_only=True,
            name=POOL,
        ) as replica:
            return [of_replica(await replica_facts(primary, replica))]
    except TransientError as error:
        return unreachable(CHECK, error, setting="POSTGRES_READ_URL")


async def replica_facts(primary: Database, replica: Database) -> ReplicaFacts:
    """Ask both."""
    async with primary.connection() as connection:
        system = await connection.fetchval(_SYSTEM)
        written = await connection.fetchval(_WRITTEN) or 0
    async with replica.connection() as connection:
        is_of_primary = await connection.fetchval(_SYSTEM) == system
        row = dict(await connection.fetchrow(_TAKEN_OVER) or {})
    return ReplicaFacts(
        is_replica=row["is_replica"],
        is_of_primary=is_of_primary,
        behind=max(0, written - (row["place"] or 0)),
        age=row["age"] or timedelta(0),
    )


def of_replica(facts: ReplicaFacts) -> Finding:
    """Judge the replica."""
    if not facts.is_of_primary:
        return Finding(
            check=CHECK,
            severity=Severity.FAILURE,
            detail="it is of another database server than the primary",
            advice="Correct POSTGRES_READ_URL: lists may show other leads.",
        )
    if not facts.is_replica:
        return Finding(
            check=CHECK,
            severity=Severity.WARNING,
            detail="it is the primary, or none of its streaming replicas",
            advice="Correct POSTGRES_READ_URL, or leave it out. All reads go to the primary.",
        )
    is_late = facts.behind > 0 and facts.age > LATE
    return Finding(
        check=CHECK,
        severity=Severity.WARNING if is_late else Severity.OK,
        detail=f"{facts.behind / 1e6:,.1f} MB behind"
        + (f", for {facts.age.total_seconds():,.0f} s" if is_late else ""),
        advice="Lists show what was so then. Look at pg_stat_replication on the primary: is it "
        "connected, or held up by a long query?"
        if is_late
        else None,
    )
