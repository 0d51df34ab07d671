"""The speed of a work beside that of its limit: medians of rounds that alternate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.load import Load, Round, run_load


@dataclass(frozen=True, slots=True)
class Target:
    """A server and what to ask it for."""

    url: str
    load: Load


@dataclass(frozen=True, slots=True)
class Measurement:
    """A work's rounds and its limit's, and how much of the limit is the budget."""

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
        return self.per_second / self.limit_per_second

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Measures `rounds` rounds of `seconds` each; large tables have `rows` rows, and
    `backlog` events wait where some do.
    """

    rounds: int
    seconds: int
    rows: int
    backlog: int
    scratch: Path

    async def measure(self, *targets: Target) -> list[list[Round]]:
        """Return each target's rounds: one of each in turn, after one that does not count.

        Raises `NoLoadError` when a single answer is a wrong one.
        """
        results: list[list[Round]] = [[] for _ in targets]
        for target in targets:
            await self._round(target)
        for _ in range(self.rounds):
            for target, rounds in zip(targets, results, strict=True):
                rounds.append(await self._round(target))
        return results

    async def _round(self, target: Target) -> Round:
        return await run_load(target.url, target.load, seconds=self.seconds, scratch=self.scratch)
