"""The speed of a work beside that of its limit: medians of rounds that alternate."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

from bench.load import Load, NoLoadError, Round, next_number, run_load

# What was accepted and not answered when a round ended is stored within this time.
SETTLE = timedelta(seconds=30)
POLL = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True)
class Target:
    """A server and what to ask it for, and where it stores, what counts its rows.

    `rows` is given the first request's number that counts: what a load before this one has left
    without an answer may be stored at any time.
    """

    url: str
    load: Load
    rows: Callable[[int], Awaitable[int]] | None = None
    name: str = "the server"


@dataclass(slots=True)
class Books:
    """Holds what a target stores against what it has answered, of requests from `first` on."""

    target: Target
    rows: Callable[[int], Awaitable[int]]
    first: int
    rounds: int = 0
    answers: int = 0
    patience: timedelta = SETTLE

    async def reconcile(self) -> None:
        """Raise `NoLoadError` unless there is one row for each answer.

        wrk goes away when its time is over, so each connection may have left one without an answer.
        """
        least = self.answers
        most = least + self.rounds * self.target.load.connections
        end = time.monotonic() + self.patience.total_seconds()
        while not least <= (rows := await self.rows(self.first)) <= most:
            if rows > most or time.monotonic() > end:
                raise NoLoadError(
                    f"{self.target.name} has answered {self.answers} times at "
                    f"{self.target.load.connections} connections in {self.rounds} rounds, and "
                    f"stored {rows} rows"
                )
            await asyncio.sleep(POLL.total_seconds())


@dataclass(frozen=True, slots=True)
class Measurement:
    """A work's rounds and its limit's or a peer's, and how much of these is the budget."""

    work: str
    limit: str
    rounds: Sequence[Round]
    limits: Sequence[Round]
    budget: float | None = None

    @property
    def per_second(self) -> float:
        """The median of the rounds."""
        return median(one.per_second for one in self.rounds)

    @property
    def limit_per_second(self) -> float:
        """The median of the limit's rounds."""
        return median(one.per_second for one in self.limits)

    @property
    def ratio(self) -> float:
        """How much of the limit the work reaches; 1 is all of it."""
        limit = self.limit_per_second
        # A round may be too short for a single answer.
        return self.per_second / limit if limit else math.inf

    @property
    def figures(self) -> tuple[str, str]:
        """What the ratio is of, as words: the work's own and the limit's."""
        return f"{self.per_second:,.0f}/s", f"{self.limit_per_second:,.0f}/s"

    @property
    def p50(self) -> float:
        """The median latency in milliseconds."""
        return median(one.p50 for one in self.rounds)

    @property
    def p95(self) -> float:
        """The latency in milliseconds that one answer in twenty exceeds."""
        return median(one.p95 for one in self.rounds)

    @property
    def p99(self) -> float:
        """The latency in milliseconds that one answer in a hundred exceeds."""
        return median(one.p99 for one in self.rounds)


class Latency(Measurement):
    """How long answers take, where as many are asked for each second anyway."""

    @property
    def ratio(self) -> float:
        """The limit's p95 by the work's own; 0.5 is twice as long."""
        return self.limit_p95 / self.p95 if self.p95 else math.inf

    @property
    def limit_p95(self) -> float:
        """The limit's latency in milliseconds that one answer in twenty exceeds."""
        return median(one.p95 for one in self.limits)

    @property
    def figures(self) -> tuple[str, str]:
        """What the ratio is of, as words: the work's own and the limit's."""
        return f"p95 {self.p95:,.0f} ms", f"p95 {self.limit_p95:,.0f} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Measures `rounds` rounds of `seconds` each, on so many processes of the API.

    Large tables have `rows` rows, and `backlog` events wait where some do. Peers are measured where
    there is a `peers_python`, the interpreter that has their packages.
    """

    rounds: int
    seconds: int
    rows: int
    backlog: int
    scratch: Path
    api_workers: int = 1
    peers_python: Path | None = None

    def named(self, work: str) -> str:
        """Return a work's name in a table."""
        return work if self.api_workers == 1 else f"{work}, {self.api_workers} APIs"

    async def measure(self, *targets: Target) -> list[list[Round]]:
        """Return each target's rounds: one of each in turn, after one that does not count.

        Raises `NoLoadError` when a single answer is a wrong one, or a row is missing.
        """
        results: list[list[Round]] = [[] for _ in targets]
        books = [
            Books(target, target.rows, next_number()) if target.rows else None for target in targets
        ]
        for number in range(self.rounds + 1):
            for target, rounds, book in zip(targets, results, books, strict=True):
                done = await run_load(
                    target.url, target.load, seconds=self.seconds, scratch=self.scratch
                )
                if number > 0:
                    rounds.append(done)
                if book is not None:
                    book.rounds += 1
                    book.answers += done.answers
        for book in books:
            if book is not None:
                await book.reconcile()
        return results
