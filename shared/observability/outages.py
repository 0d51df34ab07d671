"""What keeps a process from its work for a while: logged once when it begins, once when it ends.

Activities report each failure and each success here, as often as they like. What they wait for
is one outage, however many of them wait for it.
"""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from shared.domain.errors import PermanentError, TransientError, UnavailableError
from shared.observability.logging import error_fields
from shared.observability.metrics import counter, gauge

log = structlog.get_logger(__name__)

# An outage is over when nothing has failed for so long since the last success.
QUIET = timedelta(seconds=1)

# What clients notice, by what is away. All else is told by the reason.
EFFECTS = {
    "redis": "writes are answered 503; reads go on",
    "postgres": "writes are accepted (202) and wait; reads that are not cached are answered 503",
    "replica": "lists are read from the primary",
    "auth": "log-ins are answered 503, and so are tokens that cannot be checked",
}
WHAT_TO_DO = "ops doctor"

# What else there is: an activity that fails by itself.
OTHER = "other"
_UP = gauge(
    "leads_dependency_up",
    "0 while work waits for this. `other` is what has no name of its own; the log says more.",
    ["dependency"],
)
_SECONDS = counter(
    "leads_outage_seconds_total",
    "How long work has waited for this, added at the end of each outage.",
    ["dependency"],
    start=[[name] for name in (*EFFECTS, OTHER)],
)
for _name in (*EFFECTS, OTHER):
    _UP.labels(_name).set(1)


@dataclass(slots=True)
class _Outage:
    since: float
    waiting: set[str] = field(default_factory=set[str])
    affected: set[str] = field(default_factory=set[str])
    ending: asyncio.TimerHandle | None = None


class Outages:
    """The outages of one process, by what is away: a server, or else the activity itself."""

    def __init__(self, *, quiet: timedelta = QUIET) -> None:
        self._quiet = quiet.total_seconds()
        self._open: dict[str, _Outage] = {}

    def failed(self, activity: str, error: Exception) -> None:
        """Note that an activity waits, and for what."""
        what = _what(activity, error)
        outage = self._open.get(what)
        if outage is None:
            outage = self._open[what] = _Outage(time.monotonic())
            _UP.labels(_label(what)).set(0)
            fields = error_fields(error)
            log.warning(
                "outage.began",
                dependency=what,
                reason=fields["error"],
                effect=EFFECTS.get(what, "what this is for comes late"),
                do=WHAT_TO_DO,
                exc_info=fields["exc_info"],
            )
        if outage.ending is not None:
            outage.ending.cancel()
            outage.ending = None
        outage.waiting.add(activity)
        outage.affected.add(activity)

    def worked(self, activity: str) -> None:
        """Note that an activity goes on."""
        if not self._open:  # nearly always
            return
        for what, outage in self._open.items():
            outage.waiting.discard(activity)
            if not outage.waiting and outage.ending is None:
                seconds = time.monotonic() - outage.since
                outage.ending = asyncio.get_running_loop().call_later(
                    self._quiet, self._end, what, seconds
                )

    def _end(self, what: str, seconds: float) -> None:
        outage = self._open.pop(what)
        label = _label(what)
        _SECONDS.labels(label).inc(seconds)
        if label not in map(_label, self._open):
            _UP.labels(label).set(1)
        log.warning(
            "outage.ended",
            dependency=what,
            seconds=round(seconds, 1),
            affected=sorted(outage.affected),
        )


def _label(what: str) -> str:
    return what if what in EFFECTS else OTHER


def _what(activity: str, error: Exception) -> str:
    if isinstance(error, UnavailableError) and error.dependency is not None:
        return error.dependency
    # Of what nobody foresaw each kind is told.
    is_ours = isinstance(error, TransientError | PermanentError)
    return activity if is_ours else f"{activity}: {type(error).__name__}"
