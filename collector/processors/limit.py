"""Bounds on series, labels, spans and events, so that one bad sender cannot fill the store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from collector.processors.contract import Processed
from store.model import METRIC_NAME, Batch, EventBatch, Labels, SampleBatch, SpanBatch


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are characters, except the two row sizes, which are bytes."""

    max_labels: int = 64
    max_label_name: int = 256
    max_label_value: int = 4096
    max_span_bytes: int = 256 * 1024
    max_event_bytes: int = 64 * 1024
    known_series: int = 200_000


class Limit:
    """A processor that drops what passes a bound and says which."""

    def __init__(self, limits: Limits = Limits()) -> None:  # frozen value
        self._limits = limits
        self._good: set[Labels] = set()

    def __call__(self, batch: Batch) -> Processed:
        if isinstance(batch, SampleBatch):
            return self._samples(batch)
        if isinstance(batch, SpanBatch):
            size = _row_bytes(
                batch.table, ("statement", "attributes", "resource", "events", "links")
            )
            table, dropped = _keep_small(batch.table, size, self._limits.max_span_bytes)
            return Processed(SpanBatch(table), {"span_too_large": dropped} if dropped else {})
        size = _row_bytes(batch.table, ("data",))
        table, dropped = _keep_small(batch.table, size, self._limits.max_event_bytes)
        return Processed(EventBatch(table), {"event_too_large": dropped} if dropped else {})

    def _samples(self, batch: SampleBatch) -> Processed:
        good = self._good
        bad: dict[int, str] = {}
        for place, labels in enumerate(batch.series):
            if labels in good:
                continue
            reason = refusal(labels, self._limits)
            if reason:
                bad[place] = reason
            else:
                self._remember(labels)
        if not bad:
            return Processed(batch, {})
        return _without(batch, bad)

    def _remember(self, labels: Labels) -> None:
        # Starting over is cheaper than tracking age: a series is checked again once in a while.
        if len(self._good) >= self._limits.known_series:
            self._good = set()
        self._good.add(labels)


def refusal(labels: Labels, limits: Limits) -> str:
    """Why a series may not be stored, or the empty string."""
    if not labels.metric:
        return "no_metric_name"
    if len(labels) > limits.max_labels:
        return "too_many_labels"
    for name, value in labels:
        if len(name) > limits.max_label_name:
            return "label_name_too_long"
        if len(value) > limits.max_label_value:
            return "metric_name_too_long" if name == METRIC_NAME else "label_value_too_long"
    return ""


def _without(batch: SampleBatch, bad: dict[int, str]) -> Processed:
    is_bad = np.zeros(len(batch.series), dtype=np.bool_)
    is_bad[list(bad)] = True
    counts = np.bincount(batch.series_index, minlength=len(batch.series))
    dropped: Counter[str] = Counter()
    for place, reason in bad.items():
        dropped[reason] += int(counts[place])
    new_place = (np.cumsum(~is_bad) - 1).astype(np.int32)
    kept = ~is_bad[batch.series_index]
    refused = {batch.series[place] for place in bad}
    left = replace(
        batch,
        series=tuple(s for place, s in enumerate(batch.series) if place not in bad),
        series_index=new_place[batch.series_index[kept]],
        ts_ms=batch.ts_ms[kept],
        values=batch.values[kept],
        exemplars=tuple(e for e in batch.exemplars if e.series not in refused),
    )
    return Processed(left, dict(dropped))


def _row_bytes(table: pa.Table, columns: tuple[str, ...]) -> Any:
    total: Any = None
    for column in columns:
        size = pc.fill_null(pc.binary_length(table.column(column)), 0)
        total = size if total is None else pc.add(total, size)
    return total


def _keep_small(table: pa.Table, size: Any, bound: int) -> tuple[pa.Table, int]:
    largest = pc.max(size).as_py()
    if largest is None or largest <= bound:
        return table, 0
    kept = table.filter(pc.less_equal(size, pa.scalar(bound)))
    return kept, table.num_rows - kept.num_rows
