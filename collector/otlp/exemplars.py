"""OTLP exemplars as those of Prometheus: the trace as labels, a histogram's at its bucket.

They are examples, so no more are read than tell something: a point is never lost by them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from collector.otlp.attributes import MAX_ATTRIBUTES, label_text, plain
from collector.otlp.names import labels_of
from store.model import METRIC_NAME, Exemplar, Labels

EARLIEST_MS = 946_684_800_000
_LATEST_MS = 1 << 45
# Of one point: the last ones are read, and a series keeps the newest of them.
MAX_READ = 1024
MAX_KEPT = 16
MAX_EXEMPLARS = 20_000  # read of one request
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8


class ExemplarBudget:
    """How many exemplars of one request are still read. A point is parsed before, and bounded."""

    def __init__(self, most: int = MAX_EXEMPLARS) -> None:
        self._left = most

    def of(self, point: Any) -> Sequence[Any]:
        """The exemplars of a point that are read: its last ones."""
        most = min(self._left, MAX_READ)
        encoded: Sequence[Any] = point.exemplars[-most:] if most else ()
        self._left -= len(encoded)
        return encoded


def exemplars_of(series: Labels, encoded: Iterable[Any]) -> Iterable[Exemplar]:
    """The newest exemplars of a series, oldest first."""
    found = [item for item in encoded if _is_whole(item)]
    found.sort(key=_time_ns)
    for item in found[-MAX_KEPT:]:
        yield _exemplar(series, item)


def bucket_exemplars(
    encoded: Iterable[Any], bounds: Sequence[float], labels: dict[str, str], name: str
) -> Iterable[Exemplar]:
    """Those of a classic histogram: the newest of each bucket, at the bucket's series."""
    newest: dict[int, Any] = {}
    for item in encoded:
        if not _is_whole(item):
            continue
        place = _bucket(_value(item), bounds)
        if place not in newest or _time_ns(item) >= _time_ns(newest[place]):
            newest[place] = item
    for place, item in sorted(newest.items()):
        bound = label_text(float(bounds[place])) if place < len(bounds) else "+Inf"
        yield _exemplar(
            Labels({**labels, "le": bound, METRIC_NAME: f"{name}_bucket"}.items()), item
        )


def _bucket(value: float, bounds: Sequence[float]) -> int:
    return len(bounds) if math.isnan(value) else bisect_left(bounds, value)


def _is_whole(item: Any) -> bool:
    """Whether it has a value and a believable time."""
    in_time = EARLIEST_MS <= item.time_unix_nano // 1_000_000 < _LATEST_MS
    return in_time and item.WhichOneof("value") is not None


def _time_ns(item: Any) -> int:
    found: int = item.time_unix_nano
    return found


def _value(item: Any) -> float:
    return float(getattr(item, item.WhichOneof("value")))


def _exemplar(series: Labels, item: Any) -> Exemplar:
    pairs = labels_of(
        (entry.key, label_text(plain(entry.value)))
        for entry in item.filtered_attributes[:MAX_ATTRIBUTES]
    )
    if len(item.trace_id) == _TRACE_ID_BYTES:
        pairs["trace_id"] = item.trace_id.hex()
    if len(item.span_id) == _SPAN_ID_BYTES:
        pairs["span_id"] = item.span_id.hex()
    return Exemplar(series, Labels(pairs.items()), item.time_unix_nano // 1_000_000, _value(item))
