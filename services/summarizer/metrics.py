"""What the summarizer counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.summarizer.storage.records import SummaryEnd
from services.summarizer.upstream import ModelCircuit
from services.summarizer.writer import Written
from shared.domain.summary import SummaryFailure
from shared.events.outcome import OutcomeStatus

# From a rule's millisecond to a request's whole deadline.
SECONDS = (0.005, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class SummaryMetrics:
    """Counters in a registry that the caller exposes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests = Counter(
            "leads_summary_requests",
            "Requests for a summary by how they went: written, reused, joined, failed, not-found.",
            ["end"],
            registry=registry,
        )
        self._failures = Counter(
            "leads_summary_failures", "Failed attempts to write.", ["reason"], registry=registry
        )
        self._calls = Counter(
            "leads_summary_model_calls", "Calls of the model, retries included.", registry=registry
        )
        self._tokens = Counter(
            "leads_summary_model_tokens", "Tokens that the model took.", ["way"], registry=registry
        )
        self._seconds = Histogram(
            "leads_summary_seconds",
            "Time to write a summary, or to fail.",
            buckets=SECONDS,
            registry=registry,
        )

    def watch(self, circuit: ModelCircuit) -> None:
        """Expose whether calls of the model are turned away."""
        gauge = Gauge(
            "leads_summary_breaker_open",
            "1 while calls of the model are turned away after a run of failures.",
            registry=self._registry,
        )
        gauge.set_function(lambda: float(circuit.is_open))

    def count_end(self, end: SummaryEnd) -> None:
        """Count how a request went."""
        status = end.outcome.status
        is_written = status is OutcomeStatus.SUMMARISED
        self._requests.labels("written" if is_written else status).inc()

    def count_writing(self, written: Written) -> None:
        """Count what writing took, and why it failed if it did."""
        self._calls.inc(written.usage.calls)
        self._tokens.labels("in").inc(written.usage.tokens_in)
        self._tokens.labels("out").inc(written.usage.tokens_out)
        self._seconds.observe(written.latency.total_seconds())
        if isinstance(written.result, SummaryFailure):
            self._failures.labels(written.result.reason).inc()
