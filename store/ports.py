"""What the rooms may ask of the store: one or two methods each, owned by what the consumers need.

Times are milliseconds since the epoch unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from store.model import (
    Batch,
    Exemplar,
    InstantVector,
    Labels,
    Matcher,
    MetricMetadata,
    RangeMatrix,
    SeriesSet,
)


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


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """What to look for among traces. Unset fields do not narrow."""

    start_ns: int
    end_ns: int
    service: str | None = None
    operation: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None
    limit: int = 20


class SpanReader(Protocol):
    """Spans by arrival, by trace, by search. Tables have `SPAN_READ_SCHEMA`."""

    def spans_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        """Spans committed after `seq`, ascending in `seq`; duplicates of a span id may occur."""
        ...

    def traces(self, trace_ids: Sequence[bytes]) -> pa.Table:
        """Every span of these traces, once each, ordered by trace and start."""
        ...

    def find_traces(self, query: TraceQuery) -> list[bytes]:
        """Trace ids, latest first."""
        ...

    def services(self) -> dict[str, list[str]]:
        """Each service seen within retention, with its operation names."""
        ...


class EventReader(Protocol):
    """Business events. Tables have `EVENT_READ_SCHEMA`; an event id appears once."""

    def events(self, start_ms: int, end_ms: int, *, types: Sequence[str] = ()) -> pa.Table:
        """Events with `start_ms <= ts < end_ms`, ascending in time."""
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
