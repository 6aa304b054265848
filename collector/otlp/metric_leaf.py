"""One OTLP metric with its points left as bytes: a malformed point costs itself alone.

Points are counted before any of them is parsed: an empty one takes two bytes as it arrives, and a
hundred in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    NumberDataPoint,
    SummaryDataPoint,
)

from collector.otlp.wire import count_messages, metric_data, metric_fields
from store.errors import LimitExceeded

MAX_POINTS = 200_000  # of one request
MAX_POINT_BYTES = 256 * 1024
POINTS: dict[str, Any] = {
    "gauge": NumberDataPoint,
    "sum": NumberDataPoint,
    "histogram": HistogramDataPoint,
    "exponential_histogram": ExponentialHistogramDataPoint,
    "summary": SummaryDataPoint,
}


@dataclass(frozen=True, slots=True)
class MetricLeaf:
    """What a metric says of itself, and its points; `kind` is empty where there is no data."""

    name: str
    description: str
    unit: str
    kind: str
    temporality: int
    is_monotonic: bool
    points: Sequence[bytes]


def metric_leaf(encoded: bytes, most: int) -> MetricLeaf | None:
    """A metric; None where it is malformed.

    Raises:
        LimitExceeded: It holds more than `most` points.
    """
    try:
        metric = metric_fields(encoded)
        kind = next((name for name in POINTS if metric.HasField(name)), "")
        data = getattr(metric, kind) if kind else b""
        if count_messages(data) > most:
            raise LimitExceeded(
                f"one request holds more than {MAX_POINTS} points",
                reason="too_many_points",
                hint="send smaller batches",
            )
        told = metric_data(data)
        return MetricLeaf(
            name=metric.name.decode(),
            description=metric.description.decode(),
            unit=metric.unit.decode(),
            kind=kind,
            temporality=told.aggregation_temporality,
            is_monotonic=told.is_monotonic,
            points=told.points,
        )
    except (DecodeError, UnicodeDecodeError):
        return None


def parsed_point(kind: str, encoded: bytes) -> Any:
    """One point.

    Raises:
        DecodeError: It is none.
    """
    return POINTS[kind].FromString(encoded)
