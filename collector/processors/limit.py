"""Bounds on series, labels, times, spans, events and logs.

One bad sender must not fill the store, or write where nobody looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collector.processors.contract import Processed
from store.model import (
    METRIC_NAME,
    Batch,
    BoolArray,
    EventBatch,
    Exemplar,
    Labels,
    LogBatch,
    RefSpace,
    SampleBatch,
    SeriesRefs,
    SpanBatch,
)

_UNSEEN, _GOOD, _BAD = 0, 1, 2
_NEVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are characters, except those of a label's value and of the three rows, which are bytes.

    Attributes:
        max_future_ms: How far ahead of the clock a sample's time may be. A sender whose clock is
            wrong would otherwise hide what comes after; Prometheus allows ten minutes.
        max_age_ms: How old a sample may be: retention would take it away at once.
    """

    max_labels: int = 64
    max_label_name: int = 256
    max_label_value: int = 4096
    max_span_bytes: int = 256 * 1024
    max_event_bytes: int = 64 * 1024
    max_log_bytes: int = 128 * 1024
    known_series: int = 200_000
    max_future_ms: int | None = 3_600_000
    max_age_ms: int | None = None


class Limit:
    """A processor that drops what passes a bound and says which.

    Without `now_ms` times are not looked at.
    """

    def __init__(
        self,
        limits: Limits = Limits(),  # frozen value
        *,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._limits = limits
        self._now_ms = now_ms
        self._good: set[Labels] = set()
        # What is known of the refs that receivers give; a generation of refs that ends, ends here.
        self._verdicts: WeakKeyDictionary[RefSpace, npt.NDArray[np.uint8]] = WeakKeyDictionary()

    def __call__(self, batch: Batch) -> Processed:
        if isinstance(batch, SampleBatch):
            return self._samples(batch)
        if isinstance(batch, SpanBatch):
            columns: tuple[str, ...] = ("statement", "attributes", "resource", "events", "links")
            table, dropped = _keep_small(batch.table, columns, self._limits.max_span_bytes)
            return Processed(SpanBatch(table), {"span_too_large": dropped} if dropped else {})
        if isinstance(batch, LogBatch):
            columns = ("body", "attributes", "resource")
            table, dropped = _keep_small(batch.table, columns, self._limits.max_log_bytes)
            return Processed(LogBatch(table), {"log_too_large": dropped} if dropped else {})
        table, dropped = _keep_small(batch.table, ("data",), self._limits.max_event_bytes)
        return Processed(EventBatch(table), {"event_too_large": dropped} if dropped else {})

    def _samples(self, batch: SampleBatch) -> Processed:
        refs = batch.known_refs
        bad = self._bad(batch.series) if refs is None else self._bad_by_ref(batch.series, refs)
        dropped: Counter[str] = Counter()
        if bad:
            batch = _without(batch, bad, dropped)
        if self._now_ms is not None:
            batch = self._in_time(batch, self._now_ms(), dropped)
        return Processed(batch, +dropped)

    def _bad(self, series: tuple[Labels, ...]) -> dict[int, str]:
        good = self._good
        bad: dict[int, str] = {}
        for place, labels in enumerate(series):
            if labels in good:
                continue
            reason = refusal(labels, self._limits)
            if reason:
                bad[place] = reason
            else:
                self._remember(labels)
        return bad

    def _bad_by_ref(self, series: tuple[Labels, ...], refs: SeriesRefs) -> dict[int, str]:
        verdicts = self._verdicts.get(refs.space)
        if verdicts is None or len(verdicts) < refs.bound:
            grown = np.zeros(refs.bound, dtype=np.uint8)
            if verdicts is not None:
                grown[: len(verdicts)] = verdicts
            verdicts = self._verdicts[refs.space] = grown
        seen = verdicts[refs.refs]
        bad: dict[int, str] = {}
        for place in np.flatnonzero(seen != _GOOD).tolist():
            reason = refusal(series[place], self._limits)
            verdicts[refs.refs[place]] = _BAD if reason else _GOOD
            if reason:
                bad[place] = reason
        return bad

    def _in_time(self, batch: SampleBatch, now_ms: int, dropped: Counter[str]) -> SampleBatch:
        limits = self._limits
        latest_ms = _NEVER if limits.max_future_ms is None else now_ms + limits.max_future_ms
        oldest_ms = -_NEVER if limits.max_age_ms is None else now_ms - limits.max_age_ms
        ts_ms = batch.ts_ms
        if len(ts_ms) and (ts_ms.max() > latest_ms or ts_ms.min() < oldest_ms):
            ahead, old = ts_ms > latest_ms, ts_ms < oldest_ms
            dropped["timestamp_in_future"] += int(ahead.sum())
            dropped["too_old"] += int(old.sum())
            batch = _only(batch, ~(ahead | old))
        if any(not oldest_ms <= sent.ts_ms <= latest_ms for sent in batch.histograms):
            for sent in batch.histograms:
                dropped["timestamp_in_future"] += sent.ts_ms > latest_ms
                dropped["too_old"] += sent.ts_ms < oldest_ms
            inside = tuple(h for h in batch.histograms if oldest_ms <= h.ts_ms <= latest_ms)
            batch = replace(batch, histograms=inside)
        if any(not oldest_ms <= exemplar.ts_ms <= latest_ms for exemplar in batch.exemplars):
            kept = tuple(e for e in batch.exemplars if oldest_ms <= e.ts_ms <= latest_ms)
            batch = replace(batch, exemplars=kept)
        return batch

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
        if _bytes(value) > limits.max_label_value:
            return "metric_name_too_long" if name == METRIC_NAME else "label_value_too_long"
    return ""


def _bytes(text: str) -> int:
    """As the store counts; lone surrogates are refused there."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _without(batch: SampleBatch, bad: dict[int, str], dropped: Counter[str]) -> SampleBatch:
    """Without the bad series; what that costs is added to `dropped`."""
    is_bad = np.zeros(len(batch.series), dtype=np.bool_)
    is_bad[list(bad)] = True
    of_histograms = np.array([sent.series_index for sent in batch.histograms], dtype=np.int32)
    owners = np.concatenate([batch.series_index, of_histograms])
    counts = np.bincount(owners, minlength=len(batch.series))
    for place, reason in bad.items():
        dropped[reason] += int(counts[place])
    new_place = (np.cumsum(~is_bad) - 1).astype(np.int32)
    left = _only(batch, ~is_bad[batch.series_index])
    refused = {batch.series[place] for place in bad}
    series = tuple(s for place, s in enumerate(batch.series) if place not in bad)
    refs = batch.known_refs
    return replace(
        left,
        series=series,
        series_index=new_place[left.series_index],
        exemplars=_not_of(batch.exemplars, refused),
        histograms=tuple(
            replace(sent, series_index=int(new_place[sent.series_index]))
            for sent in batch.histograms
            if not is_bad[sent.series_index]
        ),
        series_refs=None
        if refs is None
        else SeriesRefs(refs.space, refs.refs[~is_bad], refs.bound, series),
    )


def _not_of(exemplars: tuple[Exemplar, ...], refused: set[Labels]) -> tuple[Exemplar, ...]:
    return tuple(exemplar for exemplar in exemplars if exemplar.series not in refused)


def _only(batch: SampleBatch, kept: BoolArray) -> SampleBatch:
    return replace(
        batch,
        series_index=batch.series_index[kept],
        ts_ms=batch.ts_ms[kept],
        values=batch.values[kept],
    )


def _row_bytes(table: pa.Table, columns: tuple[str, ...]) -> Any:
    total: Any = None
    for column in columns:
        size = pc.fill_null(_lengths(table.column(column)), 0)
        total = size if total is None else pc.add(total, size)
    return total


def _lengths(column: pa.ChunkedArray[Any]) -> Any:
    if not pa.types.is_dictionary(column.type):
        return pc.binary_length(column)
    coded: Any = column.combine_chunks()
    return pc.binary_length(coded.dictionary).take(coded.indices)


def _keep_small(table: pa.Table, columns: tuple[str, ...], bound: int) -> tuple[pa.Table, int]:
    """Rows whose texts in these columns take no more than `bound` bytes, and how many do."""
    if sum(table.column(name).nbytes for name in columns) <= bound:
        return table, 0  # all texts together are not longer than those of one row may be
    size = _row_bytes(table, columns)
    largest = pc.max(size).as_py()
    if largest is None or largest <= bound:
        return table, 0
    kept = table.filter(pc.less_equal(size, pa.scalar(bound)))
    for place, name in enumerate(kept.column_names):
        if pa.types.is_dictionary(kept.schema.types[place]):
            kept = kept.set_column(place, kept.schema.field(place), _in_use(kept.column(name)))
    return kept, table.num_rows - kept.num_rows


def _in_use(column: pa.ChunkedArray[Any]) -> Any:
    """A column without the texts of its dictionary that no row has."""
    coded: Any = column.combine_chunks()
    used = pc.unique(coded.indices.drop_null())
    places = pc.index_in(coded.indices, value_set=used).cast(coded.type.index_type)
    return pa.DictionaryArray.from_arrays(
        places, coded.dictionary.take(used), ordered=coded.type.ordered
    )
