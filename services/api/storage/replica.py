"""Where lists are read from: a replica of PostgreSQL, as long as it is as new as it has to be.

A replica shows what was so a moment ago, by itself without contradiction. What must not happen is
that a list goes back in time from one page to the next, or ends where the primary says that it
must and lacks what comes before. So what was seen is named by its place in the primary's log
(WAL), in bytes: the cursor of a next page carries the place at which the page before was read, and
who has not come as far is not asked. The primary always has.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from services.api.storage.settled import settled_before
from shared.domain.errors import TransientError, UnavailableError
from shared.observability.outages import Outages
from shared.storage.pool import Database

Store = TypeVar("Store")
Result = TypeVar("Result")

NAME = "replica"
# The primary answers instead, so a replica gets little time, and is not asked again for a while.
PROBE_TIMEOUT = timedelta(milliseconds=250)
AWAY = timedelta(seconds=2)
GOOD_FOR = timedelta(seconds=1)
# A replica is behind by milliseconds as a rule: so long may it take to catch up.
CATCH_UP = timedelta(milliseconds=100)
POLL = timedelta(milliseconds=10)

_PLACE = """
    SELECT pg_is_in_recovery() AS is_replica, (
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
             ELSE pg_current_wal_insert_lsn() END - '0/0'
    )::int8 AS place
"""


@dataclass(frozen=True, slots=True)
class Settled:
    """A time before which leads get no stamp any more, and the place that has all of those.

    The place is None where there is no replica, and then it does not matter.
    """

    before: datetime
    place: int | None


class Replica:
    """The replica, if there is one, and whether it may be asked.

    It is nobody's dependency: when it is away, or is no replica, the primary is asked.
    """

    def __init__(self, primary: Database, replica: Database | None, outages: Outages) -> None:
        self.primary = primary
        self.replica = replica
        self._outages = outages
        self._place = -1
        self._good_until = 0.0
        self._away_until = 0.0

    async def settled(self) -> Settled:
        """Return up to where readers that poll may see; raises `UnavailableError`."""
        before = await settled_before(self.primary)
        # What comes to stand before that time was committed, and so is in the log by now.
        place = None if self.replica is None else (await _place(self.primary))[1]
        return Settled(before, place)

    async def choose(self, *, at_least: int | None) -> Database:
        """Return a database that has all up to a place: the replica, or else the primary."""
        if self.replica is None or time.monotonic() < self._away_until:
            return self.primary
        if time.monotonic() < self._good_until and (at_least or -1) <= self._place:
            return self.replica
        try:
            async with asyncio.timeout(PROBE_TIMEOUT.total_seconds()):
                has_come = await self._comes_to(self.replica, at_least or -1)
        except (TransientError, TimeoutError) as error:
            self.is_away(error)
            return self.primary
        self._outages.worked(NAME)
        self._good_until = time.monotonic() + GOOD_FOR.total_seconds()
        return self.replica if has_come else self.primary

    def is_away(self, error: Exception) -> None:
        """Ask the primary for a while."""
        self._away_until = time.monotonic() + AWAY.total_seconds()
        reason = str(error) or "no answer in time"
        self._outages.failed(NAME, UnavailableError(reason, dependency=NAME))

    async def _comes_to(self, replica: Database, at_least: int) -> bool:
        give_up = time.monotonic() + CATCH_UP.total_seconds()
        while True:
            is_replica, self._place = await _place(replica)
            if not is_replica:
                raise UnavailableError("POSTGRES_READ_URL leads to no replica")
            if self._place >= at_least or time.monotonic() > give_up:
                return self._place >= at_least
            await asyncio.sleep(POLL.total_seconds())


async def _place(database: Database) -> tuple[bool, int]:
    async with database.connection() as connection:
        row = await connection.fetchrow(_PLACE)
    if row is None or row["place"] is None:
        raise UnavailableError("PostgreSQL does not say how far it is")
    return row["is_replica"], row["place"]


@dataclass(frozen=True, slots=True)
class Read(Generic[Result]):
    """What was read, and from where."""

    result: Result
    _source: Database | None
    _at_least: int | None

    async def place(self) -> int | None:
        """Return a place that has all that was seen; None where there is no replica."""
        if self._source is None:
            return None
        # Asked for after the reading, it is no earlier than what was read.
        return max((await _place(self._source))[1], self._at_least or 0)


class Reads(Generic[Store]):
    """A store on the replica and on the primary: each read goes to one of them."""

    def __init__(self, replica: Replica, make: Callable[[Database], Store]) -> None:
        self._replica = replica
        self._on_primary = make(replica.primary)
        self._on_replica = None if replica.replica is None else make(replica.replica)

    async def choose(self, *, at_least: int | None = None) -> Store:
        """Return the store of a database that has all up to a place."""
        chosen = await self._replica.choose(at_least=at_least)
        is_replica = chosen is self._replica.replica and self._on_replica is not None
        return self._on_replica if is_replica and self._on_replica else self._on_primary

    async def read(
        self, query: Callable[[Store], Awaitable[Result]], *, at_least: int | None = None
    ) -> Read[Result]:
        """Read from the replica, or the primary where that fails or has not come to a place."""
        store = await self.choose(at_least=at_least)
        if store is self._on_replica:
            try:
                return Read(await query(store), self._replica.replica, at_least)
            except UnavailableError as error:
                self._replica.is_away(error)
            except TransientError:
                pass  # such as a conflict with what it takes over from the primary
        source = None if self._on_replica is None else self._replica.primary
        return Read(await query(self._on_primary), source, at_least)
