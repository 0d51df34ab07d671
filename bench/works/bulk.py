"""Many leads at once: a file that is imported, and past events that are replayed.

Each beside PostgreSQL alone, which copies the same rows into a table with the same indexes. And
clients create leads meanwhile, as many a second as a large sales team: they wait a little longer.
"""

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import asyncpg
import httpx

from bench.load import NoLoadError, Round
from bench.measurement import Bench, Latency, Measurement
from bench.system import running_system

CREATES_PER_SECOND = 50
COPIED = "a COPY into a table with the same indexes"
POLL = timedelta(milliseconds=30)
PATIENCE = timedelta(minutes=5)
# Of the events that wait in a backlog: such work is done several times.
SHARE = 5
COLUMNS = "externalId,firstName,lastName,email,phone,city,country"
EMPTY_COPY = """
    DROP TABLE IF EXISTS bench_copy;
    CREATE TABLE bench_copy (LIKE leads.lead INCLUDING ALL)
"""
IMPORTED = "FROM leads.lead WHERE source = 'import'"

Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Crew:
    """Those who ask for work, and see to it that all of it was done."""

    http: httpx.AsyncClient
    database: "asyncpg.Connection[Any]"
    operator: Mapping[str, str]
    rows: int

    async def imports(self) -> None:
        """Import a file of new leads."""
        answer = await self.http.post(
            "/leads/import", content=_file(self.rows), headers={"Content-Type": "text/csv"}
        )
        done = await self._ended(answer, "status", "pending", self.http.headers)
        if done["status"] != "succeeded" or done["progress"]["created"] != self.rows:
            raise NoLoadError(f"Of {self.rows} rows not all became leads: {done}")

    def replays(self, since: datetime, until: datetime) -> Work:
        """Return what puts the events back that were made in a time."""
        order = {
            "origin": "archive",
            "types": ["lead-created"],
            "since": since.isoformat(),
            "until": until.isoformat(),
            "dryRun": False,
        }

        async def replay() -> None:
            answer = await self.http.post("/admin/replays", json=order, headers=self.operator)
            done = await self._ended(answer, "state", "add", self.operator)
            if done["applied"] + done["alreadyApplied"] != self.rows:
                raise NoLoadError(f"Of {self.rows} events not all were applied: {done}")

        return replay

    async def lose(self) -> None:
        """Have PostgreSQL lose what was imported."""
        await self.database.execute(f"DELETE {IMPORTED}")

    async def copy(self) -> Round:
        """Have PostgreSQL copy what was imported."""
        rows = await self.database.fetch(f"SELECT * {IMPORTED} LIMIT {self.rows}")
        await self.database.execute(EMPTY_COPY)
        begun = time.monotonic()
        await self.database.copy_records_to_table("bench_copy", records=rows)
        return Round.of_all(len(rows), seconds=time.monotonic() - begun)

    async def time(self, work: Work) -> Round:
        """Do a work alone."""
        begun = time.monotonic()
        await work()
        return Round.of_all(self.rows, seconds=time.monotonic() - begun)

    async def wait(self, work: Work) -> Round:
        """Create leads while a work is done, whether earlier ones are answered or not."""
        working, begun = asyncio.ensure_future(work()), time.monotonic()
        creating: list[asyncio.Task[float]] = []
        while not creating or not working.done():
            creating.append(asyncio.create_task(self._create()))
            due = begun + len(creating) / CREATES_PER_SECOND
            await asyncio.sleep(max(0, due - time.monotonic()))
        await working
        return Round.of_latencies(await asyncio.gather(*creating), seconds=time.monotonic() - begun)

    async def _create(self) -> float:
        lead = {"firstName": "Ada", "lastName": "Lovelace", "email": f"{uuid.uuid4()}@example.com"}
        begun = time.monotonic()
        answer = await self.http.post("/leads", json=lead)
        if answer.status_code != HTTPStatus.CREATED:
            raise NoLoadError(f"A create was answered {answer.status_code}: {answer.text}")
        return (time.monotonic() - begun) * 1_000

    async def _ended(
        self, answer: httpx.Response, name: str, going_on: str, headers: Mapping[str, str]
    ) -> Any:
        """Return what was accepted once its state is no longer one that goes on."""
        if answer.status_code != HTTPStatus.ACCEPTED:
            raise NoLoadError(f"Answered {answer.status_code}: {answer.text}")
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while True:
                asked = await self.http.get(answer.headers["Location"], headers=headers)
                done = asked.raise_for_status().json()
                if not done[name].startswith(going_on):
                    return done
                await asyncio.sleep(POLL.total_seconds())


async def imports(bench: Bench) -> AsyncIterator[Measurement]:
    """POST of a file, until all of it is stored."""
    async with _crew(bench) as crew:
        await crew.imports()
        async for one in _measured(bench, crew, f"an import of {crew.rows:,} rows", crew.imports):
            yield one


async def replays(bench: Bench) -> AsyncIterator[Measurement]:
    """Archived events put back, of leads that are there and of leads that were lost."""
    async with _crew(bench) as crew:
        since = datetime.now(UTC)
        await crew.imports()
        replay = crew.replays(since, datetime.now(UTC))
        name = f"a replay of {crew.rows:,} events"
        async for one in _measured(bench, crew, f"{name}, leads that are there", replay):
            yield one
        async for one in _measured(bench, crew, f"{name}, lost leads", replay, before=crew.lose):
            yield one


async def _measured(
    bench: Bench, crew: Crew, name: str, work: Work, *, before: Work | None = None
) -> AsyncIterator[Measurement]:
    alone, copied, meanwhile, idle = list[Round](), list[Round](), list[Round](), list[Round]()
    for _ in range(bench.rounds):
        copied.append(await crew.copy())
        idle.append(await crew.wait(lambda: asyncio.sleep(bench.seconds)))
        for rounds, measure in ((alone, crew.time), (meanwhile, crew.wait)):
            if before is not None:
                await before()
            rounds.append(await measure(work))
    yield Measurement(name[0].upper() + name[1:], COPIED, alone, copied)
    yield Latency(
        f"POST /leads, 50 a second, during {name}", "the same alone", meanwhile, idle, 0.5
    )


@contextlib.asynccontextmanager
async def _crew(bench: Bench) -> AsyncGenerator[Crew]:
    async with (
        running_system(API_WORKERS=str(bench.api_workers)) as system,
        httpx.AsyncClient(
            base_url=system.url, headers=system.headers, timeout=PATIENCE.total_seconds()
        ) as http,
    ):
        database = await asyncpg.connect(system.dsn)
        try:
            yield Crew(http, database, system.operator, max(1, bench.backlog // SHARE))
        finally:
            await database.close()


def _file(rows: int) -> bytes:
    run = uuid.uuid4().hex
    lines = (
        f"{uuid.uuid4()},Ada,Lovelace {number},ada.{run}.{number}@example{number % 50}.com,"
        f"+44 20 7946 {number % 10_000:04},London,United Kingdom\n"
        for number in range(rows)
    )
    return "".join(itertools.chain((f"{COLUMNS}\n",), lines)).encode()
