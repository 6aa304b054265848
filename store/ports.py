"""What the rooms may ask of the store: one or two methods each, owned by what the consumers need.

Times are milliseconds since the epoch unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt
import pyarrow as pa

from store.model import (
    Batch,
    Exemplar,
    InstantVector,
    Int64Array,
    Labels,
    Matcher,
    MetricMetadata,
    RangeMatrix,
    SeriesSet,
)

ROLLUP_MS = 300_000


class Appender(Protocol):
    """Takes batches in. Safe to call from any thread."""

    def append(self, batch: Batch) -> Future[None]:
        """Queue a batch for the next group commit.

        The future resolves when the batch is durable (a kill -9 keeps it) and visible to readers.

        Raises:
            Overloaded: The queue is full; try again later.
            LimitExceeded: The batch would pass a bound, such as the number of series.
            StoreUnavailable: By the future: the store could not write (disk full, closed).
        """
        ...


class SeriesReader(Protocol):
    """Raw samples by matchers."""

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        max_samples: int = 50_000_000,
    ) -> SeriesSet:
        """Samples with `start_ms <= ts <= end_ms` of the series that pass every matcher.

        Raises:
            QueryError: More than `max_samples` would be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class RollupSpan:
    """Where roll-ups and raw samples are; 0 is nowhere yet.

    Attributes:
        rolled_until_ms: Every bucket up to here tells the same as the raw samples did.
        raw_after_ms: Raw samples are kept after this time; before it there are only roll-ups.
            A multiple of five minutes.
    """

    rolled_until_ms: int
    raw_after_ms: int


@dataclass(frozen=True, slots=True)
class RollupSet:
    """Five-minute roll-ups of selected series, grouped by series and ascending in time.

    Series `i` owns `bucket_ms[offsets[i]:offsets[i + 1]]` and the same slice of each column. A
    bucket is named by its end and holds the samples with `bucket - 300,000 < ts <= bucket`,
    staleness markers left out of all columns but `stale_at`. The columns:

    - `first`, `last` (float): values; `first_at`, `last_at` (int): milliseconds before `bucket`,
      zero or below;
    - `low`, `high`: the extremes; NaN only when there is nothing else;
    - `total`, `rest`: Kahan's sum and its compensation; `count`: samples, 0 when only a
      staleness marker came;
    - `resets`: the sum of the values that were followed by a lower one (counter resets);
    - `stale_at`: as `last_at`, of a staleness marker after the last sample; 1 when there is none.

    `complete` is False when some of the series have native histograms, which have no roll-ups.
    """

    series: tuple[Labels, ...]
    offsets: Int64Array
    bucket_ms: Int64Array
    columns: Mapping[str, npt.NDArray[Any]]
    complete: bool = True


@runtime_checkable
class RollupReader(Protocol):
    """Roll-ups by matchers, for queries that are long or reach past the raw samples."""

    def raw_after_ms(self) -> int:
        """`RollupSpan.raw_after_ms` at no cost: every selector of every rule asks."""
        ...

    def rollup_span(self) -> RollupSpan: ...

    def rollups(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        columns: Sequence[str],
        max_samples: int = 50_000_000,
    ) -> RollupSet:
        """Buckets with `start_ms < bucket <= end_ms`, and these columns of them.

        Raises:
            QueryError: More than `max_samples` buckets would be read.
        """
        ...


class SeriesCatalog(Protocol):
    """Which series and labels exist."""

    def series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[Labels]: ...

    def label_names(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[str]: ...

    def label_values(
        self, name: str, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[str]: ...


class MetadataReader(Protocol):
    """Types, helps and units of metric families."""

    def metadata(self, family: str | None = None) -> list[MetricMetadata]: ...


class ExemplarReader(Protocol):
    """Exemplars by series."""

    def exemplars(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int
    ) -> list[Exemplar]: ...


class SeriesAdmin(Protocol):
    """Takes samples away."""

    def delete_series(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> int: ...


class Snapshotter(Protocol):
    """Copies of the store while it runs."""

    def snapshot(self, directory: Path) -> Path:
        """A consistent copy in this directory, which is made; returns the file.

        Raises:
            StoreUnavailable: The copy cannot be written.
        """
        ...


@dataclass(frozen=True, slots=True)
class TsdbStatus:
    """What a store holds, and what its series are made of.

    Attributes:
        series: How many there are.
        label_pairs: Distinct pairs of a label and a value.
        chunks: Blocks of samples in memory.
        oldest_ms: Time of the oldest sample or roll-up; None without any. Likewise `newest_ms`.
        by_metric: Names with the most series. Each list is (name, count), largest first.
        values_by_label: Labels with the most values.
        bytes_by_label: Labels whose values are the longest, summed over the series.
        by_pair: `label=value` pairs with the most series.
    """

    series: int
    label_pairs: int
    chunks: int
    oldest_ms: int | None
    newest_ms: int | None
    by_metric: Sequence[tuple[str, int]]
    values_by_label: Sequence[tuple[str, int]]
    bytes_by_label: Sequence[tuple[str, int]]
    by_pair: Sequence[tuple[str, int]]


@runtime_checkable
class TsdbReader(Protocol):
    """Counts of series and labels."""

    def tsdb_status(self, limit: int) -> TsdbStatus:
        """With lists of at most `limit` entries."""
        ...


@runtime_checkable
class SpaceReclaimer(Protocol):
    """Gives the room of deleted samples back."""

    def reclaim(self) -> int:
        """Returns the bytes that are in use afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """What to look for among traces. Unset fields do not narrow.

    Attributes:
        received_until_ms: Spans that arrived later are not looked at.
    """

    start_ns: int
    end_ns: int
    service: str | None = None
    operation: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None
    limit: int = 20
    received_until_ms: int | None = None


_TROUBLED_FIELDS: list[pa.Field[Any]] = [
    pa.field("trace_id", pa.binary()),
    pa.field("session_id", pa.string()),
    pa.field("ts_ms", pa.int64()),
    pa.field("failed", pa.bool_()),
]
TROUBLED_SCHEMA = pa.schema(_TROUBLED_FIELDS)


class SpanReader(Protocol):
    """Spans by arrival, by trace, by search. Tables have `SPAN_READ_SCHEMA`."""

    def spans_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        """Spans committed after `seq`, ascending in `seq`; duplicates of a span id may occur.

        Its texts may be dictionaries, as `SPAN_CODED_READ_SCHEMA` has them.
        """
        ...

    def traces(self, trace_ids: Sequence[bytes]) -> pa.Table:
        """Every span of these traces, once each, ordered by trace and start."""
        ...

    def find_traces(self, query: TraceQuery) -> list[bytes]:
        """Trace ids, latest first."""
        ...

    def services(self, *, kind: int | None = None) -> dict[str, list[str]]:
        """Each service seen within retention, with its operation names; or those of one kind."""
        ...


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What to look for among logs. Unset fields do not narrow.

    Attributes:
        start_ns: From this time on, in nanoseconds; `end_ns` is the last one.
        min_severity: OTLP's severity number, 0 to 24.
        text: What the body, the event's name or the attributes hold, in either case.
        before: `(ts_ns, seq)` of the last row of the page before.
    """

    start_ns: int
    end_ns: int
    service: str | None = None
    min_severity: int = 0
    trace_id: bytes | None = None
    text: str | None = None
    before: tuple[int, int] | None = None
    limit: int = 100


class LogReader(Protocol):
    """Log records by search. Tables have `LOG_READ_SCHEMA`."""

    def logs(self, query: LogQuery) -> pa.Table:
        """Rows that fit, the latest first; of one instant, the last that came first."""
        ...


class RequestReader(Protocol):
    """The requests of visitors that went wrong."""

    def troubled_requests(self, start_ms: int, end_ms: int, slow_s: float) -> pa.Table:
        """Those that failed or took `slow_s` and more, as `TROUBLED_SCHEMA`.

        A trace counts by its first server span; `session_id` is that span's `session.id`.

        Raises:
            LimitExceeded: They are too many to look at all of them; a part is never answered.
        """
        ...


class EventReader(Protocol):
    """Business events. Tables have `EVENT_READ_SCHEMA`; an event id appears once."""

    def events(
        self, start_ms: int, end_ms: int, *, types: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> pa.Table:
        """Events with `start_ms <= ts < end_ms`, ascending in time.

        With `columns` only those, in no order: of many events that costs a fraction.
        """
        ...

    def events_after(self, seq: int, *, limit: int = 100_000) -> pa.Table: ...


class Querier(Protocol):
    """PromQL for the rooms above: rules, detectors, SLOs, panels."""

    def instant(self, expr: str, ts_ms: int) -> InstantVector:
        """Evaluate at one instant; a scalar answers as one value without labels.

        Raises:
            QueryError: With Prometheus's own error types.
        """
        ...

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> RangeMatrix: ...
