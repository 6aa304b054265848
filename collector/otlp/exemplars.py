"""OTLP exemplars as those of Prometheus: the trace as labels, a histogram's at its bucket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from collector.otlp.attributes import label_text, plain
from collector.otlp.names import labels_of
from store.model import METRIC_NAME, Exemplar, Labels

EARLIEST_MS = 946_684_800_000
_LATEST_MS = 1 << 45


def exemplars_of(series: Labels, encoded: Iterable[Any]) -> Iterable[Exemplar]:
    """The exemplars of a series; one without a value or a believable time is left out."""
    for item in encoded:
        kind = item.WhichOneof("value")
        ts_ms = item.time_unix_nano // 1_000_000
        if kind is None or not EARLIEST_MS <= ts_ms < _LATEST_MS:
            continue
        pairs = labels_of(
            (entry.key, label_text(plain(entry.value))) for entry in item.filtered_attributes
        )
        if item.trace_id:
            pairs["trace_id"] = item.trace_id.hex()
        if item.span_id:
            pairs["span_id"] = item.span_id.hex()
        yield Exemplar(series, Labels(pairs.items()), ts_ms, float(getattr(item, kind)))


def bucket_exemplars(
    encoded: Iterable[Any], bounds: Sequence[float], labels: dict[str, str], name: str
) -> Iterable[Exemplar]:
    """Those of a classic histogram, each at the series of the bucket that its value is in."""
    for item in encoded:
        kind = item.WhichOneof("value")
        if kind is None:
            continue
        value = float(getattr(item, kind))
        bound = next((label_text(float(bound)) for bound in bounds if value <= bound), "+Inf")
        series = Labels({**labels, "le": bound, METRIC_NAME: f"{name}_bucket"}.items())
        yield from exemplars_of(series, (item,))
