"""What the forwarder counts about itself, on a registry that the composition root owns."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LABELS = ("endpoint",)


class ForwardMetrics:
    """Figures by endpoint; times are Unix seconds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sent = Counter(
            "warroom_forward_samples_sent",
            "Samples that the endpoint took.",
            _LABELS,
            registry=registry,
        )
        self.dropped = Counter(
            "warroom_forward_samples_dropped",
            "Samples that will never reach the endpoint, by reason.",
            (*_LABELS, "reason"),
            registry=registry,
        )
        self.retries = Counter(
            "warroom_forward_retries",
            "Requests that failed and were tried again.",
            _LABELS,
            registry=registry,
        )
        self.request_seconds = Histogram(
            "warroom_forward_request_seconds",
            "Time of a request, whatever its end.",
            _LABELS,
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.pending = Gauge(
            "warroom_forward_samples_pending",
            "Samples that wait on disk or are under way.",
            _LABELS,
            registry=registry,
        )
        self.bytes = Gauge(
            "warroom_forward_queue_bytes", "Size of the queue on disk.", _LABELS, registry=registry
        )
        self.newest_queued = Gauge(
            "warroom_forward_newest_queued_timestamp_seconds",
            "Latest time of a sample in the queue.",
            _LABELS,
            registry=registry,
        )
        self.newest_sent = Gauge(
            "warroom_forward_newest_sent_timestamp_seconds",
            "Latest time of a sample that the endpoint took.",
            _LABELS,
            registry=registry,
        )
        self.lag = Gauge(
            "warroom_forward_lag_seconds",
            "Age of the oldest piece that waits; 0 when nothing waits.",
            _LABELS,
            registry=registry,
        )
