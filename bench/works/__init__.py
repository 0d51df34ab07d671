"""The measured works by their names."""

from collections.abc import AsyncIterator, Callable

from bench.measurement import Bench, Measurement
from bench.works.backlog import backlog
from bench.works.bulk import imports, replays
from bench.works.requests import cached_reads, creates, pages, summaries

WORKS: dict[str, Callable[[Bench], AsyncIterator[Measurement]]] = {
    "reads": cached_reads,
    "creates": creates,
    "pages": pages,
    "summaries": summaries,
    "backlog": backlog,
    "imports": imports,
    "replays": replays,
}
# Those in which it matters how many processes the API has.
OF_THE_API = frozenset(("reads", "creates", "pages", "summaries"))
