"""The map of the system: which event travels on which stream, from whom, to whom."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.events.data import (
    ImportRequested,
    LeadChanged,
    LeadCreated,
    LeadDeleted,
    LeadUpdated,
    LeadUpserted,
    SummaryRequested,
    SyncRequested,
)
from shared.events.envelope import EventData

LEADS = "stream:leads"
SUMMARIES = "stream:summaries"
SYNC = "stream:sync"
IMPORTS = "stream:imports"
CHANGES = "stream:changes"

SYNCER = "syncer"
SUMMARIZER = "summarizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One event type's way: its stream, the services that publish it, the groups that consume it.

    No group means that any reader may follow the stream.
    """

    event: type[EventData]
    stream: str
    producers: tuple[str, ...]
    groups: tuple[str, ...]


FLOWS = (
    Flow(event=LeadCreated, stream=LEADS, producers=("api", "syncer"), groups=(SYNCER,)),
    Flow(event=LeadUpdated, stream=LEADS, producers=("api",), groups=(SYNCER,)),
    Flow(event=LeadUpserted, stream=LEADS, producers=("api", "syncer"), groups=(SYNCER,)),
    Flow(event=LeadDeleted, stream=LEADS, producers=("api",), groups=(SYNCER,)),
    Flow(event=SyncRequested, stream=SYNC, producers=("syncer", "api", "ops"), groups=(SYNCER,)),
    Flow(event=ImportRequested, stream=IMPORTS, producers=("api", "ops"), groups=(SYNCER,)),
    Flow(event=SummaryRequested, stream=SUMMARIES, producers=("api", "ops"), groups=(SUMMARIZER,)),
    Flow(event=LeadChanged, stream=CHANGES, producers=("syncer", "summarizer"), groups=()),
)

# Streams whose events keep their order by key. Each is divided into partitions: `streams.ordering`.
ORDERED = frozenset({LEADS})

STREAMS = tuple(dict.fromkeys(flow.stream for flow in FLOWS))
BY_TYPE = {flow.event.type: flow for flow in FLOWS}


def stream_of(data: EventData) -> str:
    """Return the stream on which this event travels."""
    return BY_TYPE[data.type].stream


def groups_of(stream: str) -> Iterator[str]:
    """Yield every consumer group of a stream, once."""
    yield from dict.fromkeys(
        group for flow in FLOWS if flow.stream == stream for group in flow.groups
    )
