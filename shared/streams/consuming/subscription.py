"""What a consumer reads and which handlers it calls."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.events.envelope import Event
from shared.events.outcome import Outcome

Handler = Callable[[Sequence[Event[Any]]], Awaitable[Sequence[Outcome]]]
"""Applies events of one type, which its subscription names, in order; gives one outcome for each.

Raises `UnavailableError` when a dependency is down (the runtime waits and calls again),
`TransientError` to be called again later, `UnfinishedError` to be called for the rest,
`PermanentError` to have the event parked. When a batch fails, each of its events is tried
alone, so that one does not fail for another.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One consumer group's share of a stream.

    `handlers` is by event type; entries of other types are passed over. Up to `concurrency`
    calls run at once, each with up to `batch` events and no longer than `deadline`.
    `is_settled` returns whether an event's effect is complete already. `also_trims` names
    streams that no group consumes, which are trimmed along with this one.

    Calls of a subscription that `waits_for_others` need what its process does on other streams.
    So they go on beside all else, and it takes more deaths to prove that they are the cause.
    """

    stream: str
    group: str
    handlers: Mapping[str, Handler]
    is_settled: Callable[[UUID], Awaitable[bool]]
    batch: int = 1
    concurrency: int = 1
    deadline: timedelta = timedelta(seconds=30)
    also_trims: tuple[str, ...] = ()
    waits_for_others: bool = False
