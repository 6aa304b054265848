"""Native histograms beside the samples.

A histogram is a row of `samples` whose value has bits of its own (`MARK`), so that order, the last
write winning, the head, the catalogue and retention treat it as any sample, and a row of
`histograms` with its payload, looked up by series and time. Where the payload is gone, so is the
sample; a client that sends these bits as a float has stored nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from store.backends.duckdb.database import Connection, Database
from store.errors import BadInput, QueryError
from store.histogram_codec import decode, encode
from store.histograms import NativeHistogram, hinted
from store.model import (
    BoolArray,
    HistogramArray,
    Int32Array,
    Int64Array,
    Labels,
    SampleBatch,
    SeriesSet,
)

# A number near 1e-306 that nobody measures. No NaN: where all values of a column segment are NaN,
# DuckDB keeps one of them for all.
MARK_BITS = 0x0048_4953_544F_4752
MARK: float = float(np.array([MARK_BITS], dtype=np.uint64).view(np.float64)[0])
# A query holds a histogram as an object: this many of them take about a gigabyte.
MAX_HISTOGRAMS = 250_000
# How far before the first histogram of a query its predecessor is looked for.
BEFORE_MS = 600_000
_SELECT = """
    SELECT series, ts, payload FROM histograms
    WHERE ts BETWEEN ? AND ? AND series IN (FROM wanted) ORDER BY rowid LIMIT ?"""

_BYTES_A_HISTOGRAM, _BYTES_A_BUCKET = 600, 72

Row = tuple[int, int, bytes]


def check(batch: SampleBatch) -> None:
    """Refuse histograms that cannot be stored.

    Raises:
        BadInput: One points to no series of the batch.
    """
    known = len(batch.series)
    if any(not 0 <= one.series_index < known for one in batch.histograms):
        raise BadInput("a histogram of the batch points to a series that the batch does not have")


def marked(batch: SampleBatch) -> SampleBatch:
    """The batch with a marked sample for each of its histograms, after its other samples."""
    found = batch.histograms
    if not found:
        return batch
    return replace(
        batch,
        series_index=np.concatenate(
            (batch.series_index, np.array([one.series_index for one in found], dtype=np.int32))
        ),
        ts_ms=np.concatenate((batch.ts_ms, np.array([one.ts_ms for one in found], np.int64))),
        values=np.concatenate((batch.values, np.full(len(found), MARK))),
    )


def size_of(batch: SampleBatch) -> int:
    """Bytes that the histograms of a batch hold while it waits, about."""
    buckets = sum(len(one.histogram.positive) + len(one.histogram.negative)
                  for one in batch.histograms)  # fmt: skip
    return _BYTES_A_HISTOGRAM * len(batch.histograms) + _BYTES_A_BUCKET * buckets


def known_part(batch: SampleBatch, known: BoolArray, place: Int32Array) -> SampleBatch:
    """Histograms of the series that stay, with the places that those have then."""
    if not batch.histograms:
        return batch
    return replace(
        batch,
        histograms=tuple(
            replace(one, series_index=int(place[one.series_index]))
            for one in batch.histograms
            if known[one.series_index]
        ),
    )


def rows(batch: SampleBatch, ids: Int32Array) -> list[Row]:
    """The payloads of a marked batch; `ids` are those of its samples' series."""
    count = len(batch.histograms)
    own = ids[len(ids) - count :].tolist()
    return [
        (place, one.ts_ms, encode(one.histogram))
        for place, one in zip(own, batch.histograms, strict=True)
    ]


def insert(connection: Connection, found: Iterable[Row]) -> None:
    """Insert payloads within the transaction that is open."""
    table = table_of(found)
    if table.num_rows:
        connection.from_arrow(table).insert_into("histograms")


def series_of(connection: Connection) -> set[int]:
    """The series that have histograms."""
    found = connection.execute("SELECT DISTINCT series FROM histograms").fetchall()
    return {int(place) for (place,) in found}


def table_of(found: Iterable[Row]) -> pa.Table:
    """Payloads as columns."""
    series, times, payloads = [], [], []
    for place, ts_ms, payload in found:
        series.append(place)
        times.append(ts_ms)
        payloads.append(payload)
    return pa.table(
        {
            "series": pa.array(series, pa.int32()),
            "ts": pa.array(times, pa.int64()),
            "payload": pa.array(payloads, pa.binary()),
        }
    )


@dataclass(slots=True)
class _Payloads:
    """Payloads of one series by time, and the times in order."""

    by_time: dict[int, bytes] = field(default_factory=dict)

    def before(self, ts_ms: int) -> NativeHistogram | None:
        earlier = [at for at in self.by_time if ts_ms - BEFORE_MS <= at < ts_ms]
        return decode(self.by_time[max(earlier)]) if earlier else None


class HistogramReader:
    """Puts the histograms where their marks are."""

    def __init__(
        self,
        database: Database,
        id_of: Callable[[Labels], int | None],
        ahead: Callable[[], list[Row]],
    ) -> None:
        """`ahead` answers what is durable but not in the table yet."""
        self._database = database
        self._id_of = id_of
        self._ahead = ahead

    def filled(self, found: SeriesSet) -> SeriesSet:
        """The same samples, with histograms in the place of marks.

        Raises:
            QueryError: There are more than `MAX_HISTOGRAMS` of them.
        """
        marks = found.values.view(np.int64) == MARK_BITS
        count = int(marks.sum())
        if not count:
            return found
        if count > MAX_HISTOGRAMS:
            raise QueryError(
                "query processing would load too many samples into memory in query execution",
                kind="execution",
                hint=f"more than {MAX_HISTOGRAMS} native histograms; ask for a shorter range "
                "or fewer series",
            )
        before = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(marks, dtype=np.int64)))
        bounds = before[found.offsets]
        chosen = np.flatnonzero(np.diff(bounds)).tolist()
        ids = {row: self._id_of(found.series[row]) for row in chosen}
        payloads = self._payloads({place for place in ids.values() if place is not None},
                                  found.ts_ms[marks])  # fmt: skip
        cells = np.full(len(found.values), None, dtype=np.object_)
        for row, place in ids.items():
            if place is not None and place in payloads:
                span = slice(int(found.offsets[row]), int(found.offsets[row + 1]))
                cells[span] = _cells(found.ts_ms[span], marks[span], payloads[place])
        return _without_lost(found, marks, cells)

    def _payloads(self, ids: set[int], times: Int64Array) -> dict[int, _Payloads]:
        low, high = int(times.min()) - BEFORE_MS, int(times.max())
        out: dict[int, _Payloads] = {}
        ahead = self._ahead()
        with self._database.reader() as cursor:
            cursor.register("wanted", pa.table({"series": pa.array(sorted(ids), pa.int32())}))
            try:
                table = cursor.sql(_SELECT, params=[low, high, 2 * MAX_HISTOGRAMS]).to_arrow_table()
            finally:
                cursor.unregister("wanted")
        columns = (table.column(name).to_pylist() for name in ("series", "ts", "payload"))
        # What is ahead of the table is newer; a row that is in both is the same.
        for place, at, payload in (*zip(*columns, strict=True), *ahead):
            if place in ids and low <= at <= high:
                out.setdefault(place, _Payloads()).by_time[at] = payload
        return out


def _cells(times: Int64Array, marks: BoolArray, payloads: _Payloads) -> HistogramArray:
    """The histograms of one series, each with the hint that the one before it gives."""
    cells = np.full(len(times), None, dtype=np.object_)
    previous: NativeHistogram | None = None
    for place, at in enumerate(times.tolist()):
        payload = payloads.by_time.get(at) if marks[place] else None
        if place == 0 and payload is not None:
            previous = payloads.before(at)
        current = None if payload is None else decode(payload)
        cells[place] = None if current is None else hinted(current, previous)
        previous = current
    return cells


def _without_lost(found: SeriesSet, marks: BoolArray, cells: HistogramArray) -> SeriesSet:
    """Without marks whose payload is gone; a mark's value is 0 from here on."""
    there = np.fromiter((cell is not None for cell in cells), np.bool_, len(cells))
    bits = found.values.view(np.int64).copy()  # as bits: staleness needs every one of them
    bits[marks] = 0
    keep = ~marks | there
    before = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(keep, dtype=np.int64)))
    return SeriesSet(
        found.series,
        before[found.offsets],
        found.ts_ms[keep],
        bits[keep].view(np.float64),
        cells[keep] if there.any() else None,
    )
