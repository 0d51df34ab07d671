"""Ending an entry: its reply, its replay's count, its dead letter, its acknowledgement."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from shared.batcher import Batcher
from shared.domain.errors import PermanentError
from shared.events.catalog import BY_TYPE, FLOWS
from shared.events.dead_letter import DeadLetter, short_key
from shared.events.envelope import Event, is_sane_id, now
from shared.events.outcome import Outcome, OutcomeStatus
from shared.observability import tracing
from shared.observability.logging import describe_error, error_fields
from shared.observability.metrics import counter, histogram
from shared.redis_connections import then, translated_errors
from shared.redis_errors import is_outage
from shared.streams.codec import Entry, bounded_number, decode, entry_id, event_ids, traced_in
from shared.streams.consuming.health import OutageWait
from shared.streams.replays.tally import ReplayResult, add_result, add_results
from shared.streams.replies import Reply, add_replies

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = structlog.get_logger(__name__)

EVENTS = counter(
    "leads_events_total",
    "Deliveries of events: applied, repeated (it had been, and nothing changed), overtaken by a "
    "later event of its lead, retried, parked as a dead letter. Of a replay only what is put back.",
    ["stream", "group", "type", "result"],
    start=[
        [flow.stream, group, flow.event.type, result]
        for flow in FLOWS
        for group in flow.groups
        for result in ("applied", "repeated", "overtaken", "retried", "parked")
    ],
)
_WAIT = histogram(
    "leads_event_wait_seconds",
    "From an event's acceptance to its effect; replayed ones are left out.",
    ["stream", "group"],
    buckets=(0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 3600),
    start=[[flow.stream, group] for flow in FLOWS for group in flow.groups],
)
OTHER_TYPE = "_OTHER"

ERROR_LENGTH = 2_000

# Notices of dead letters, for dashboards and alerts. The letters themselves are in PostgreSQL.
DEAD_LETTERS = "stream:dead-letters"
MOST_NOTICES = 1_000

# How a replayed event ends that cannot be applied.
_REFUSALS = frozenset(
    {
        OutcomeStatus.DUPLICATE,
        OutcomeStatus.ERASED,
        OutcomeStatus.FAILED,
        OutcomeStatus.NOT_FOUND,
        OutcomeStatus.VERSION_MISMATCH,
    }
)


class DeadLetterStore(Protocol):
    """Where dead letters are kept; one per group and event.

    A protocol, since `shared.streams` may not import `shared.storage`, which implements it.
    """

    async def add_letter(self, letter: DeadLetter) -> None:
        """Keep a letter; one that is there already is replaced."""


@dataclass(slots=True)
class Delivery:
    """An entry of a stream, the event in it, when it was taken up, and its span if it has one."""

    stream: str
    entry: Entry
    event: Event
    since: float = field(default_factory=time.monotonic)
    span: "Span | None" = None
    _ids: dict[str, str] | None = field(default=None, init=False)

    @property
    def entry_id(self) -> str:
        """The entry's id in its stream."""
        return self.entry.id

    @property
    def ids(self) -> dict[str, str]:
        """What every log line about it says, as `event_ids` of what is no event yet."""
        if self._ids is None:
            self._ids = self._make_ids()
        return self._ids

    def _make_ids(self) -> dict[str, str]:
        event = self.event
        event_id = self.entry.event_id  # the event's, whose text need not be made anew
        correlation_id = event.correlation_id
        ids = {
            "type": event.type,
            "event_id": event_id,
            "correlation_id": correlation_id if is_sane_id(correlation_id) else event_id,
        }
        if (lead_id := getattr(event.data, "lead_id", None)) is not None:
            ids["lead_id"] = str(lead_id)
        if event.traceparent is not None and (trace_id := traced_in(event.traceparent)):
            ids["trace"] = trace_id
        return ids

    def fail(self, error: BaseException) -> None:
        """Note that it is not handled yet, or never will be."""
        if tracing.tracer is not None:
            tracing.tracer.failed(self, error)


class Addressee(Protocol):
    """A stream and the name of a group in it."""

    @property
    def stream(self) -> str: ...
    @property
    def name(self) -> str: ...


Ending: TypeAlias = tuple[Sequence[Delivery], Sequence[Outcome]]
"""Events that were handled, and what came of each."""


class Settlement:
    """Sends replies, counts replays, keeps dead letters, and acknowledges last.

    `endings` settles what ends at the same time in one round trip; its owner runs it.
    """

    def __init__(
        self, redis: Redis, group: Addressee, *, dead_letters: DeadLetterStore, outages: OutageWait
    ) -> None:
        self._redis = redis
        self._stream = group.stream
        self._group = group.name
        self._dead_letters = dead_letters
        self._outages = outages
        self.endings: Batcher[Ending, None] = Batcher(self._settle_all)

    async def _settle_all(self, endings: Sequence[Ending]) -> Sequence[None]:
        run = [delivery for deliveries, _ in endings for delivery in deliveries]
        outcomes = [outcome for _, outcomes in endings for outcome in outcomes]
        await self.settle(run, outcomes)
        return [None] * len(endings)

    async def settle(self, run: Sequence[Delivery], outcomes: Sequence[Outcome]) -> None:
        """Answer and acknowledge handled events in one round trip; raises `UnavailableError`."""
        ended = [(one.event, outcome) for one, outcome in zip(run, outcomes, strict=True)]
        since = time.time_ns()
        async with self._redis.pipeline(transaction=False) as pipeline:
            _report(pipeline, ended)
            self._acknowledge(pipeline, *(one.entry.id for one in run))
            await self._execute(pipeline)
        note_applied(run, outcomes, stream=self._stream, group=self._group, since=since)

    def count_retried(self, entry: Entry) -> None:
        """Count an entry that is to be tried again."""
        type_ = entry.fields.get(b"type", b"").decode(errors="replace")
        EVENTS.labels(self._stream, self._group, _known(type_), "retried").inc()

    async def park(
        self, entry: Entry, error: BaseException, *, reason: str, partition: str | None = None
    ) -> None:
        """Keep an entry as a dead letter, however long that takes, and acknowledge it.

        `partition` is the stream that it is in, where that is a part of this one.
        """
        letter = self._letter(
            entry, error, reason=reason, place=f"{partition or self._stream} {entry.id}"
        )
        await self._outages.call(lambda: self._dead_letters.add_letter(letter))
        log.error(
            "event.parked",
            **event_ids(entry.fields),
            stream=letter.stream,
            group=letter.group,
            entry=letter.entry_id,
            attempt=letter.attempts,
            reason=reason,
            error=describe_error(error),
        )
        EVENTS.labels(self._stream, self._group, _known(letter.type), "parked").inc()
        event = _event_or_none(entry)
        async with self._redis.pipeline(transaction=False) as pipeline:
            _notify(pipeline, letter)
            if event is not None:
                _report(pipeline, [(event, _dead(reason))])
            elif (replay_id := letter.fields.get("replayid")) is not None:
                number = bounded_number(letter.fields.get("replaynumber", ""))
                add_result(pipeline, replay_id, number, ReplayResult.DEAD)
            self._acknowledge(pipeline, entry.id)
            await self._execute(pipeline)

    async def acknowledge(self, entry_id: str) -> None:
        """Take an entry off the pending list."""
        with translated_errors():
            await self._redis.xack(self._stream, self._group, entry_id)

    async def _execute(self, pipeline: Pipeline) -> None:
        """Send what is queued; raises `UnavailableError`.

        What else fails is a reply or a count: an event may name any key for these, also one that
        takes none. That is no reason to handle it again, and would fail again.
        """
        with translated_errors():
            results = cast("list[object]", await pipeline.execute(raise_on_error=False))
            errors = [result for result in results if isinstance(result, Exception)]
            for error in filter(is_outage, errors):
                raise error
        if errors:
            log.error("event.not_reported", stream=self._stream, **error_fields(errors[0]))

    def _acknowledge(self, pipeline: Pipeline, *entry_ids: str) -> None:
        then(pipeline)
        pipeline.xack(self._stream, self._group, *entry_ids)

    def _letter(self, entry: Entry, error: BaseException, *, reason: str, place: str) -> DeadLetter:
        # Whatever the bytes are, an operator must be able to see them, and the store to keep them.
        fields = {
            name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
            for name, value in entry.fields.items()
        }
        return DeadLetter(
            group=self._group,
            event_id=_id_or_none(fields.get("id")) or place,
            stream=self._stream,
            entry_id=entry.id,
            type=short_key(fields.get("type", "")),
            reason=reason,
            error=f"{type(error).__name__}: {error}"[:ERROR_LENGTH],
            attempts=entry.attempt,
            fields=fields,
        )


def note_applied(
    run: Sequence[Delivery], outcomes: Sequence[Outcome], *, stream: str, group: str, since: int
) -> None:
    """Count and log events that took effect; `since` is when their replies went out, in ns."""
    time = now()
    counts = Counter(
        (one.event.type, _result(outcome)) for one, outcome in zip(run, outcomes, strict=True)
    )
    for (type_, result), count in counts.items():
        EVENTS.labels(stream, group, type_, result).inc(count)
    wait = _WAIT.labels(stream, group)
    for one, outcome in zip(run, outcomes, strict=True):
        if one.event.replay_id is None and not outcome.repeated:
            wait.observe((time - one.event.time).total_seconds())
    if tracing.tracer is not None:
        tracing.tracer.applied(zip(run, outcomes, strict=True), _is_awaited, since=since)
    log.info(
        "event.applied",
        each=[_end_of(one, outcome) for one, outcome in zip(run, outcomes, strict=True)],
    )


def _report(pipeline: Pipeline, ended: Sequence[tuple[Event, Outcome]]) -> None:
    """Queue replies to the clients that still wait, and the counts of replays, which get none."""
    if results := [
        (event.replay_id, event.replay_number, _replay_result(outcome))
        for event, outcome in ended
        if event.replay_id is not None and outcome.status is not OutcomeStatus.FORWARDED
    ]:
        add_results(pipeline, results)
    if replies := [
        Reply(event.reply_to, event.id, outcome)
        for event, outcome in ended
        if event.reply_to is not None and _is_awaited(event, outcome)
    ]:
        add_replies(pipeline, replies)


def _is_awaited(event: Event, outcome: Outcome) -> bool:
    return event.reply_to is not None and outcome.answered and not _is_over(event)


def _result(outcome: Outcome) -> str:
    if outcome.status is OutcomeStatus.OVERTAKEN:
        return "overtaken"
    return "repeated" if outcome.repeated else "applied"


def _known(type_: str) -> str:
    """Return an event's type as a label: what is in a stream may be anything."""
    return type_ if type_ in BY_TYPE else OTHER_TYPE


def _is_over(event: Event) -> bool:
    return event.replay_id is not None or (event.expires is not None and event.expires < now())


def _replay_result(outcome: Outcome) -> ReplayResult:
    if outcome.status == OutcomeStatus.DEAD:
        return ReplayResult.DEAD
    is_other = outcome.status is OutcomeStatus.KEY_REUSED
    if is_other or (outcome.status in _REFUSALS and not outcome.repeated):
        return ReplayResult.REFUSED
    return ReplayResult.ALREADY_APPLIED if outcome.repeated else ReplayResult.APPLIED


def _notify(pipeline: Pipeline, letter: DeadLetter) -> None:
    """Queue a notice of a dead letter, without its contents."""
    pipeline.xadd(
        DEAD_LETTERS,
        {
            "group": letter.group,
            "id": letter.event_id,
            "stream": letter.stream,
            "type": letter.type,
            "reason": letter.reason,
        },
        maxlen=MOST_NOTICES,
        approximate=True,
    )


def _dead(reason: str) -> Outcome:
    return Outcome(OutcomeStatus.DEAD, orjson.dumps({"reason": reason}))


def _end_of(delivery: Delivery, outcome: Outcome) -> dict[str, object]:
    """Return what the log says of an event that took effect; times are in ms."""
    entry = delivery.entry
    waited = time.time() * 1000 - entry_id(entry.id)[0]
    line: dict[str, object] = {
        **delivery.ids,
        "partition": delivery.stream,
        "entry": entry.id,
        "result": outcome.status,
        "attempt": delivery.event.attempt,
        # Since it was accepted, by the clock of the server that has the stream.
        "wait": max(0, round(waited)),
        "ms": round((time.monotonic() - delivery.since) * 1000, 1),
    }
    if outcome.lead_id is not None:
        line["lead_id"] = outcome.lead_id
    if outcome.repeated:
        line["repeated"] = True
    return line


def _id_or_none(text: str | None) -> str | None:
    """Return an event's id. Other text is nobody's own: a second letter would replace the first."""
    try:
        return None if text is None else str(UUID(text))
    except ValueError:
        return None


def _event_or_none(entry: Entry) -> Event | None:
    try:
        return decode(entry.fields)
    except PermanentError:
        return None
