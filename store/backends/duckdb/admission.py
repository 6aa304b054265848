"""What may enter the queue: shapes, types, and the bounds on series and their labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from store.backends.duckdb import events, histograms, logs, spans
from store.backends.duckdb.ingest import Entry, too_many_series
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.series_index import NO_ID, SeriesIndex
from store.errors import BadInput, LimitExceeded
from store.model import Batch, EventBatch, Labels, LogBatch, SampleBatch, SpanBatch

_BYTES_A_SAMPLE = 20
_BYTES_A_SERIES = 64
_MOST_HELP = 4096


class Admission:
    """Checks a batch before it is queued, on the caller's thread."""

    def __init__(self, index: SeriesIndex, limits: StoreLimits) -> None:
        self._index = index
        self._limits = limits

    def check(self, batch: Batch) -> tuple[Entry, LimitExceeded | None]:
        """The batch with the ids of its series, and what had to be left out of it.

        Raises:
            BadInput: Columns do not fit together.
            LimitExceeded: A label is too long, or a series has too many.
        """
        match batch:
            case SpanBatch():
                return Entry(SpanBatch(spans.checked(batch.table))), None
            case EventBatch():
                return Entry(EventBatch(events.checked(batch.table))), None
            case LogBatch():
                return Entry(LogBatch(logs.checked(batch.table))), None
            case SampleBatch():
                return self._samples(histograms.marked(_checked_columns(batch)))

    def _samples(self, batch: SampleBatch) -> tuple[Entry, LimitExceeded | None]:
        ids = self._index.ids_of_batch(batch)
        missing = np.flatnonzero(ids == NO_ID).tolist()
        unknown = [batch.series[place] for place in missing]
        unknown += self._index.unknown(exemplar.series for exemplar in batch.exemplars)
        for exemplar in batch.exemplars:
            self._check_labels(exemplar.labels)
        if not unknown:
            return Entry(batch, ids), None
        for labels in unknown:
            self._check_labels(labels)
        if len(self._index) + len(set(unknown)) <= self._limits.max_series:
            return Entry(batch), None
        known = self._known_part(batch, set(unknown))
        return Entry(known), too_many_series(self._limits.max_series)

    def _known_part(self, batch: SampleBatch, unknown: set[Labels]) -> SampleBatch:
        """Without new series: a flood of new ones must not blind the known ones."""
        known = np.fromiter((s not in unknown for s in batch.series), np.bool_, len(batch.series))
        keep = known[batch.series_index]
        place = np.cumsum(known, dtype=np.int32) - np.int32(1)
        return replace(
            histograms.known_part(batch, known, place),
            series=tuple(labels for labels in batch.series if labels not in unknown),
            series_index=place[batch.series_index[keep]],
            ts_ms=batch.ts_ms[keep],
            values=batch.values[keep],
            exemplars=tuple(e for e in batch.exemplars if e.series not in unknown),
        )

    def _check_labels(self, labels: Labels) -> None:
        limits = self._limits
        if len(labels) > limits.max_labels_per_series:
            raise LimitExceeded(
                f"a series of {labels.metric!r} has {len(labels)} labels,"
                f" {limits.max_labels_per_series} are allowed",
                reason="max_labels_per_series",
                hint="drop labels at the source",
            )
        for name, value in labels.pairs:
            if len(name) * 4 > limits.max_label_name_bytes or not name.isascii():
                _check_length(name, limits.max_label_name_bytes, f"label name {name[:40]!r}")
            if len(value) * 4 > limits.max_label_value_bytes or not value.isascii():
                what = f"the value of the label {name!r}"
                _check_length(value, limits.max_label_value_bytes, what)
            if not name:
                raise BadInput(f"a series of {labels.metric!r} has a label without a name")


def _check_length(text: str, most: int, what: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        raise BadInput(f"{what} is not valid Unicode") from exc
    if size > most:
        raise LimitExceeded(
            f"{what} is {size} bytes long, {most} are allowed",
            reason="label_too_long",
            hint="shorten or drop the label at the source",
        )


def _checked_columns(batch: SampleBatch) -> SampleBatch:
    rows = len(batch.ts_ms)
    if not (len(batch.series_index) == len(batch.values) == rows):
        raise BadInput("the columns of the sample batch differ in length")
    index = np.ascontiguousarray(batch.series_index, dtype=np.int32)
    if rows and not 0 <= int(index.min()) <= int(index.max()) < len(batch.series):
        raise BadInput("a sample of the batch points to a series that the batch does not have")
    histograms.check(batch)
    return replace(
        batch,
        series_index=index,
        ts_ms=np.ascontiguousarray(batch.ts_ms, dtype=np.int64),
        values=np.ascontiguousarray(batch.values, dtype=np.float64),
        metadata=tuple(replace(m, help=m.help[:_MOST_HELP]) for m in batch.metadata),
    )


def size_of(batch: Batch) -> int:
    """Bytes that a batch holds while it waits, about."""
    if isinstance(batch, SampleBatch):
        columns = _BYTES_A_SAMPLE * len(batch) + _BYTES_A_SERIES * len(batch.series)
        return columns + histograms.size_of(batch)
    return int(batch.table.get_total_buffer_size())
