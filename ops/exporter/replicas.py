"""How many replicas of a service the work at hand is for: the formulas that autoscalers go by.

**syncer**: the sum over the partitions of `stream:leads` of `min(backlog / W, 1)`, at least 1 and
at most the number of partitions. The backlog is what was not delivered; what is held for another
attempt does not count. `W` is what one syncer applies in a round of 15 s. A partition has one
reader at a time, so each adds at most 1, and a single key with all the events adds no more.

**summarizer**: what waits and what is worked on in `stream:summaries`, divided by
`SUMMARY_CONCURRENCY`; at least 1. While calls of the model wait, as its provider has asked for a
pause or the minute's budget is spent, it does not grow past the replicas there are: more of them
would share the same budget.

The values are not rounded: an autoscaler rounds up, after it has passed over small differences.
"""

from collections.abc import Sequence

from shared.observability.metrics import family
from shared.streams.inspection import COUNTABLE

# 2,000 events a second for 15 s: 60 % of what one syncer did in `make bench ARGS=backlog`.
SYNCER_WORK = 30_000

WANTED = family(
    "leads_wanted_replicas",
    "gauge",
    "How many replicas the backlog is for. syncer: the sum over partitions of min(backlog without "
    f"held events / {SYNCER_WORK:,}, 1), from 1 to the number of partitions. summarizer: backlog / "
    "SUMMARY_CONCURRENCY, at least 1, and not more than there are while the model's budget is "
    "spent or its provider has asked for a pause.",
    ("service",),
)


def wanted_syncers(backlogs: Sequence[int | None], *, partitions: int) -> float:
    """Return how many syncers are wanted, by the backlog of each partition; None is very large."""
    wanted = sum(1 if one is None else min(one / SYNCER_WORK, 1) for one in backlogs)
    return max(1.0, min(wanted, partitions))


def wanted_summarizers(backlog: int | None, *, concurrency: int) -> float:
    """Return how many summarizers are wanted, if the model may be called; None is very large."""
    return max(1.0, (COUNTABLE if backlog is None else backlog) / concurrency)
