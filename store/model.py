"""Labels, samples, spans and events as they travel through Warroom: columnar and frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import override

from store import row_schemas
from store.histograms import NativeHistogram

METRIC_NAME = "__name__"
# Prometheus's value/value.go: a NaN with this payload says that the series ended.
STALE_NAN_BITS = 0x7FF0000000000002

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
# A NativeHistogram, or None where a sample is a float.
HistogramArray = npt.NDArray[np.object_]


class Labels:
    """An immutable, sorted set of label pairs; a label with an empty value does not exist."""

    __slots__ = ("_hash", "pairs")

    pairs: tuple[tuple[str, str], ...]

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        ordered = tuple(sorted([(name, value) for name, value in pairs if value]))
        object.__setattr__(self, "pairs", ordered)
        object.__setattr__(self, "_hash", hash(ordered))

    @classmethod
    def of(cls, mapping: Mapping[str, str] | None = None, /, **labels: str) -> Labels:
        """Labels of a mapping and/or keywords: `Labels.of({"le": "1"}, job="shop")`."""
        return cls({**(mapping or {}), **labels}.items())

    @classmethod
    def ordered(cls, pairs: tuple[tuple[str, str], ...]) -> Labels:
        """Labels of pairs that are known to be sorted, each name once, no value empty."""
        labels = cls.__new__(cls)
        object.__setattr__(labels, "pairs", pairs)
        object.__setattr__(labels, "_hash", hash(pairs))
        return labels

    @override
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Labels are immutable")

    def get(self, name: str, default: str = "") -> str:
        for key, value in self.pairs:
            if key == name:
                return value
        return default

    @property
    def metric(self) -> str:
        """The metric's name, or the empty string."""
        return self.get(METRIC_NAME)

    def replace(self, **labels: str) -> Labels:
        """With these labels set; an empty value removes one."""
        return Labels({**dict(self.pairs), **labels}.items())

    def keep(self, names: Iterable[str]) -> Labels:
        wanted = frozenset(names)
        return Labels(pair for pair in self.pairs if pair[0] in wanted)

    def drop(self, names: Iterable[str]) -> Labels:
        unwanted = frozenset(names)
        return Labels(pair for pair in self.pairs if pair[0] not in unwanted)

    def to_dict(self) -> dict[str, str]:
        return dict(self.pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    @override
    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]  # set past our own __setattr__

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and self.pairs == other.pairs

    def __lt__(self, other: Labels) -> bool:
        return self.pairs < other.pairs

    @override
    def __repr__(self) -> str:
        inner = ", ".join(f'{name}="{value}"' for name, value in self.pairs if name != METRIC_NAME)
        return f"{self.metric}{{{inner}}}"


class MatchOp(StrEnum):
    """The four operators of a label matcher."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label. Regular expressions are RE2 and anchored at both ends."""

    name: str
    op: MatchOp
    value: str


class MetricType(StrEnum):
    """Prometheus's metric types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MetricMetadata:
    """What a metric family says of itself."""

    family: str
    type: MetricType = MetricType.UNKNOWN
    help: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One example measurement of a series, with (usually) the trace it came from."""

    series: Labels
    labels: Labels
    ts_ms: int
    value: float


class RefSpace:
    """Whose numbers series refs are: one generation of one table. Compared by identity."""

    __slots__ = ("__weakref__",)


@dataclass(frozen=True, slots=True)
class SeriesRefs:
    """Numbers that a receiver gives to series, so that others need not hash labels again.

    A ref stands for one label set as long as its space lives.

    Attributes:
        space: Whose refs they are.
        refs: One for each of `series`.
        bound: Every ref of the space is below it.
        series: The series that they stand for, by identity: where `SampleBatch.series` was
            replaced, its refs no longer hold.
    """

    space: RefSpace
    refs: Int32Array
    bound: int
    series: tuple[Labels, ...]


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """One native histogram; its series is given by its place in the batch's `series`.

    That a series of histograms ended is said by a float sample with the staleness bits.
    """

    series_index: int
    ts_ms: int
    histogram: NativeHistogram


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Samples of several series, as columns.

    Attributes:
        series: The distinct series of the batch.
        series_index: For each sample, its series' place in `series`.
        ts_ms: For each sample, milliseconds since the epoch.
        values: For each sample, its value; NaN payload bits (staleness) are kept.
        series_refs: Numbers of `series`, where the receiver has some. Read `known_refs`.
        histograms: Samples that are native histograms, beside the float columns.
    """

    series: tuple[Labels, ...]
    series_index: Int32Array
    ts_ms: Int64Array
    values: Float64Array
    metadata: tuple[MetricMetadata, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    series_refs: SeriesRefs | None = None
    histograms: tuple[HistogramSample, ...] = ()

    def __len__(self) -> int:
        return len(self.ts_ms) + len(self.histograms)

    @property
    def known_refs(self) -> SeriesRefs | None:
        """The refs of `series`, unless a processor replaced the series and left the refs."""
        refs = self.series_refs
        return refs if refs is not None and refs.series is self.series else None

    @classmethod
    def of_rows(
        cls,
        rows: Iterable[tuple[Labels, int, float | NativeHistogram]],
        *,
        metadata: tuple[MetricMetadata, ...] = (),
        exemplars: tuple[Exemplar, ...] = (),
    ) -> SampleBatch:
        """A batch of `(labels, ts_ms, value)` rows; for small batches, off the hot path."""
        place: dict[Labels, int] = {}
        index: list[int] = []
        times: list[int] = []
        values: list[float] = []
        histograms: list[HistogramSample] = []
        for labels, ts_ms, value in rows:
            at = place.setdefault(labels, len(place))
            if isinstance(value, NativeHistogram):
                histograms.append(HistogramSample(at, ts_ms, value))
                continue
            index.append(at)
            times.append(ts_ms)
            values.append(value)
        return cls(
            series=tuple(place),
            series_index=np.asarray(index, dtype=np.int32),
            ts_ms=np.asarray(times, dtype=np.int64),
            values=np.asarray(values, dtype=np.float64),
            metadata=metadata,
            exemplars=exemplars,
            histograms=tuple(histograms),
        )


SPAN_SCHEMA = row_schemas.SPAN_SCHEMA
SPAN_READ_SCHEMA = row_schemas.SPAN_READ_SCHEMA
SPAN_CODED_SCHEMA = row_schemas.SPAN_CODED_SCHEMA
SPAN_CODED_READ_SCHEMA = row_schemas.SPAN_CODED_READ_SCHEMA
EVENT_SCHEMA = row_schemas.EVENT_SCHEMA
EVENT_READ_SCHEMA = row_schemas.EVENT_READ_SCHEMA
LOG_SCHEMA = row_schemas.LOG_SCHEMA
LOG_READ_SCHEMA = row_schemas.LOG_READ_SCHEMA


@dataclass(frozen=True, slots=True)
class SpanBatch:
    """Spans as an Arrow table of `SPAN_SCHEMA` or of `SPAN_CODED_SCHEMA`."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Business events as an Arrow table of `EVENT_SCHEMA`."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Log records as an Arrow table of `LOG_SCHEMA`."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)


Batch = SampleBatch | SpanBatch | EventBatch | LogBatch


@dataclass(frozen=True, slots=True)
class SeriesSet:
    """Raw samples of selected series, grouped by series and ascending in time.

    Series `i` owns `ts_ms[offsets[i]:offsets[i + 1]]` and the same slice of `values`.
    A (series, time) pair appears once: the last write won. `histograms`, if there are any, is as
    long as `values`; a sample is a histogram where it is not None (its value is 0 then).
    """

    series: tuple[Labels, ...]
    offsets: Int64Array  # len(series) + 1
    ts_ms: Int64Array
    values: Float64Array
    histograms: HistogramArray | None = None


@dataclass(frozen=True, slots=True)
class InstantVector:
    """The answer of an instant query: one value a series.

    Where `histograms`, if there are any, is not None, it is the value; `values` is NaN there.
    """

    series: tuple[Labels, ...]
    values: Float64Array
    histograms: HistogramArray | None = None

    def items(self) -> Iterator[tuple[Labels, float]]:
        return zip(self.series, self.values.tolist(), strict=True)

    def samples(self) -> Iterator[tuple[Labels, float | NativeHistogram]]:
        """As `items`, with the histograms in their places."""
        cells = [None] * len(self) if self.histograms is None else self.histograms.tolist()
        for (labels, value), histogram in zip(self.items(), cells, strict=True):
            yield labels, value if histogram is None else histogram

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, slots=True)
class RangeMatrix:
    """The answer of a range query on a fixed grid of steps.

    Attributes:
        steps_ms: The T instants.
        values: N series by T steps.
        present: N by T; False where the series has no value at the step (NaN is a value).
        histograms: N by T, if there are any; where not None it is the value (`values` is NaN).
    """

    series: tuple[Labels, ...]
    steps_ms: Int64Array
    values: Float64Array
    present: BoolArray
    histograms: HistogramArray | None = None


@dataclass(frozen=True, slots=True)
class UnitHealth:
    """How one unit of a batch (a rule, a detector, an SLO, a source) fared at its last run."""

    unit: str
    ok: bool
    at_ms: int
    duration_s: float
    error: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
